target_link_libraries(test-fusefs PRIVATE pyram_fusefs)
