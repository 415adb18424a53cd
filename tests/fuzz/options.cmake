target_link_libraries(test-fuzz PRIVATE pyram_fusefs pyram_builder)
