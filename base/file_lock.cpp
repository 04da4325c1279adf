#include "base/file_lock.h"

#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "base/error.h"

namespace sluice::base {

// flock() and not fcntl(): a lock of flock() belongs to the open file. It is inherited by child processes,
// works between threads, and is not lost when some other descriptor of the same file is closed.
bool try_lock(const File& file) {
  while (::flock(file.descriptor(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR) throw_errno(file.path(), "lock", errno);
  }
  return true;
}

bool wait_for_lock(const File& file, const std::function<bool()>& keep_waiting) {
  constexpr std::chrono::milliseconds kPause{50};
  while (!try_lock(file)) {
    if (!keep_waiting()) return false;
    std::this_thread::sleep_for(kPause);
  }
  return true;
}

bool wait_for_lock(const File& file) {
  // About a second: long enough for a process that was just killed to be gone.
  int tries_left = 20;
  return wait_for_lock(file, [&] { return --tries_left > 0; });
}

bool still_has_its_name(const File& file) {
  struct stat opened {};
  struct stat named {};
  if (::fstat(file.descriptor(), &opened) != 0) throw_errno(file.path(), "stat", errno);
  return ::lstat(file.path().c_str(), &named) == 0 && opened.st_dev == named.st_dev &&
         opened.st_ino == named.st_ino;
}

}  // namespace sluice::base
