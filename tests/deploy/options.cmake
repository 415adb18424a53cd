target_link_libraries(test-deploy PRIVATE pyram_deploy)
