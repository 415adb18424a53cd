target_link_libraries(test-reliability PRIVATE pyram_fusefs)
# A disk that fails is a FUSE file system of the tests' own.
target_include_directories(test-reliability SYSTEM PRIVATE ${FUSE3_INCLUDE_DIRS})
