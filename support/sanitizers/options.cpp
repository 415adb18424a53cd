// What the sanitizers of a build with PYRAM_SANITIZE do. It stands in the programs, as many tests
// start them with an environment of their own, and what is found goes to files, as the stderr of a
// daemon is nobody's: tests/run fails where one was written. ASAN_OPTIONS and the like still win.
//
// The names are the sanitizers'. NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" {

const char* __asan_default_options() {
  return "log_path=" PYRAM_SANITIZER_REPORTS
         "/report:detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1:"
         "check_initialization_order=1";
}

const char* __ubsan_default_options() {
  return "log_path=" PYRAM_SANITIZER_REPORTS "/report:print_stacktrace=1";
}

const char* __tsan_default_options() {
  // A worker is forked by a supervisor that has one thread, and makes threads of its own.
  return "log_path=" PYRAM_SANITIZER_REPORTS "/report:die_after_fork=0:second_deadlock_stack=1";
}

}  // extern "C". NOLINTEND(bugprone-reserved-identifier)
