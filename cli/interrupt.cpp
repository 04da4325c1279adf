// Three parts: a signal handler, which may only call async-signal-safe functions and so writes one byte to a
// pipe; a thread that reads the pipe and requests the stop; and the second signal, which ends the process
// from the handler.

#include "cli/interrupt.h"

#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <mutex>
#include <stop_token>
#include <thread>

#include "base/error.h"

namespace sluice::cli {
namespace {

// timeout(1) signals the process and then its group, so a second signal that follows this soon is the same
// request.
constexpr std::int64_t kSameRequestNs = 100'000'000;
// 128 + SIGINT, as shells report a process that Ctrl-C has ended.
constexpr int kSecondInterruptExit = 130;

std::atomic<std::int64_t> first_signal_ns{0};
std::atomic<int> wake_descriptor{-1};
std::atomic<bool> term_came{false};
// Number of the token that signals stop now. The pipe carries it, so that a signal whose byte is read after
// renew() does not stop the next token.
std::atomic<unsigned char> token_number{0};
std::mutex source_mutex;
std::stop_source source;                                        // guarded by source_mutex
static_assert(std::atomic<std::int64_t>::is_always_lock_free);  // used in a signal handler

// Only async-signal-safe calls (signal-safety(7)): requesting a stop is not one of them, so a thread does it.
extern "C" void on_signal(int number) {
  // write() may change errno, which the interrupted code may be about to read.
  const int saved_errno = errno;
  if (number == SIGTERM) term_came = true;
  struct timespec now {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const std::int64_t now_ns = std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  std::int64_t first_ns = 0;
  // Only one signal can be the first, even if two threads get one at the same time.
  if (first_signal_ns.compare_exchange_strong(first_ns, now_ns)) {
    const unsigned char byte = token_number.load();
    static_cast<void>(!::write(wake_descriptor.load(), &byte, 1));
  } else if (now_ns - first_ns > kSameRequestNs) {
    ::_exit(kSecondInterruptExit);
  }
  errno = saved_errno;
}

}  // namespace

std::stop_token InterruptHandler::install() {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) base::throw_errno("pipe", "create", errno);
  // The handler writes to the pipe, so the descriptor is stored before the handler is installed.
  wake_descriptor = ends[1];
  // The new thread inherits a mask that blocks all signals, so that they go to other threads: one of them may
  // wait in a system call that a signal must end.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &before);
  // The thread runs until the process ends; it holds nothing that has to be released.
  std::thread([descriptor = ends[0]] {
    while (true) {
      unsigned char number = 0;
      const auto got = ::read(descriptor, &number, 1);
      if (got < 0 && errno == EINTR) continue;
      if (got != 1) return;
      const std::lock_guard lock(source_mutex);
      if (number == token_number.load()) source.request_stop();
    }
  }).detach();
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  struct sigaction action {};
  action.sa_handler = on_signal;
  // System calls go on after a signal, so that code that knows nothing of signals does not fail with EINTR.
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  return source.get_token();
}

std::stop_token InterruptHandler::renew() {
  const std::lock_guard lock(source_mutex);
  ++token_number;
  source = std::stop_source();
  first_signal_ns = 0;
  return source.get_token();
}

bool InterruptHandler::terminated() { return term_came; }

}  // namespace sluice::cli
