// A mutex and its lock, annotated for clang's analysis of thread safety (-Wthread-safety): a member
// that is GUARDED_BY a mutex is only touched where the mutex is held, and a function that REQUIRES
// it is only called there. tests/rules/locks.test has clang check it. Other compilers see nothing
// of the annotations. Documentation: clang.llvm.org/docs/ThreadSafetyAnalysis.html.
#pragma once

#include <mutex>

#ifdef __clang__
#define PYRAM_ANNOTATION(attribute) __attribute__((attribute))
#else
#define PYRAM_ANNOTATION(attribute)
#endif
// Of a member: the mutex that guards it.
#define PYRAM_GUARDED_BY(mutex) PYRAM_ANNOTATION(guarded_by(mutex))
// Of a function, or a lambda behind its parameters: the caller holds the mutex.
#define PYRAM_REQUIRES(mutex) PYRAM_ANNOTATION(requires_capability(mutex))

namespace pyram {

// std::mutex. Only a Lock locks it.
class PYRAM_ANNOTATION(capability("mutex")) Mutex {
 private:
  friend class Lock;
  std::mutex mutex_;
};

// Holds a mutex for as long as it lives, but for what is said here.
class PYRAM_ANNOTATION(scoped_lockable) Lock {
 public:
  explicit Lock(Mutex& mutex) PYRAM_ANNOTATION(acquire_capability(mutex)) : lock_(mutex.mutex_) {}
  ~Lock() PYRAM_ANNOTATION(release_capability()) {}
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

  void unlock() PYRAM_ANNOTATION(release_capability()) { lock_.unlock(); }
  // For a condition variable, which holds it again when it returns.
  [[nodiscard]] std::unique_lock<std::mutex>& waitable() { return lock_; }

 private:
  std::unique_lock<std::mutex> lock_;
};

}  // namespace pyram
