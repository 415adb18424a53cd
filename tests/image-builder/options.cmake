target_link_libraries(test-image-builder PRIVATE pyram_builder ${CMAKE_DL_LIBS})
# Images are built in these, some of them a dozen times.
set(PYRAM_TEST_PROPERTIES TIMEOUT 900)
