target_link_libraries(test-image-builder PRIVATE pyram_builder ${CMAKE_DL_LIBS})
