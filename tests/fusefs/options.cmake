target_link_libraries(test-fusefs PRIVATE pyram_fusefs)
# Replaces operator new.
target_sources(test-fusefs PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/reliability/allocations.cpp)
