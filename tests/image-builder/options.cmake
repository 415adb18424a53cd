target_link_libraries(test-image-builder PRIVATE pyram_builder ${CMAKE_DL_LIBS})
if(PYRAM_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # As of the library: falsely found in <regex>.
  target_compile_options(test-image-builder PRIVATE -Wno-maybe-uninitialized)
endif()
# Images are built in these, some of them a dozen times.
set(PYRAM_TEST_PROPERTIES TIMEOUT 900)
