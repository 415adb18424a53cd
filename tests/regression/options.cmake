find_package(nlohmann_json REQUIRED)
target_link_libraries(test-regression PRIVATE nlohmann_json::nlohmann_json)
target_compile_definitions(test-regression PRIVATE PYRAM_TEST_STATIC=$<BOOL:${PYRAM_STATIC}>)
