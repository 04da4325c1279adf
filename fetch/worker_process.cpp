// Starts workers with posix_spawn and talks to them over a socket (its stdin) and a pipe (its stdout). The
// lock of the output folder is passed on as descriptor 3: flock() belongs to the open file, so the folder
// stays locked until the last process that has it open ends, even if the parent is killed first.

#include "fetch/worker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "base/error.h"
#include "base/invariant.h"
#include "fetch/job/worker_event.h"

namespace sluice::fetch {
namespace {

constexpr int kLockDescriptor = 3;  // in the worker

// What posix_spawn() does in the new process before the program starts. fork() would need code that runs
// between fork and exec, which may only call async-signal-safe functions in a process with threads.
class SpawnSetup {
 public:
  SpawnSetup(int input, int output, int lock) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawn_file_actions_adddup2(&actions_, input, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions_, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions_, lock, kLockDescriptor);
    // The worker must not hold descriptors of the parent, such as another worker's pipes.
    posix_spawn_file_actions_addclosefrom_np(&actions_, kLockDescriptor + 1);
    // A process group of its own: Ctrl-C at the terminal goes to the parent, which asks workers to stop.
    posix_spawnattr_init(&attributes_);
    posix_spawnattr_setflags(&attributes_,
                             POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    // The parent may block signals and ignore SIGPIPE; the worker starts without either.
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes_, &none);
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes_, &pipe);
  }
  ~SpawnSetup() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnSetup(const SpawnSetup&) = delete;
  SpawnSetup& operator=(const SpawnSetup&) = delete;

  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

}  // namespace

WorkerProcess::WorkerProcess(const std::vector<std::string>& command, std::string_view job,
                             int lock_descriptor) {
  INVARIANT(!command.empty());
  // A socket instead of a pipe for stdin: send() can suppress the SIGPIPE of a reader that has ended.
  int sockets[2];
  int pipes[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0)
    base::throw_errno(command.front(), "start", errno);
  if (::pipe2(pipes, O_CLOEXEC) != 0) {
    const int error = errno;
    ::close(sockets[0]);
    ::close(sockets[1]);
    base::throw_errno(command.front(), "start", error);
  }
  input_ = sockets[0];
  output_ = pipes[0];
  std::vector<char*> argv;
  for (const std::string& argument : command) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const SpawnSetup setup(sockets[1], pipes[1], lock_descriptor);
  // posix_spawnp() returns its error and does not set errno.
  const int error =
      ::posix_spawnp(&process_, argv.front(), &setup.actions_, &setup.attributes_, argv.data(), environ);
  // Only the worker may hold these ends: the parent learns of its end by the end of its output.
  ::close(sockets[1]);
  ::close(pipes[1]);
  if (error != 0) {
    process_ = -1;
    ::close(input_);
    ::close(output_);
    base::throw_errno(command.front(), "start", error);
  }
  send(std::string(job) + '\n');
}

WorkerProcess::~WorkerProcess() {
  if (process_ > 0) {
    ::kill(process_, SIGKILL);
    static_cast<void>(wait());
  }
  ::close(input_);
  ::close(output_);
}

bool WorkerProcess::take_line(std::string& line) {
  const std::size_t end = buffer_.find('\n');
  if (end == std::string::npos) return false;
  line = buffer_.substr(0, end);
  buffer_.erase(0, end + 1);
  return true;
}

WorkerProcess::ReadState WorkerProcess::read_line(std::string& line, std::chrono::milliseconds wait) {
  if (take_line(line)) return ReadState::line;
  pollfd output{.fd = output_, .events = POLLIN, .revents = 0};
  // A signal that interrupts poll() counts as "nothing yet": the caller looks at its stop token and calls
  // again.
  if (::poll(&output, 1, static_cast<int>(wait.count())) <= 0) return ReadState::nothing_yet;
  char chunk[16384];
  const auto got = ::read(output_, chunk, sizeof chunk);
  if (got < 0) return ReadState::nothing_yet;
  if (got == 0) return ReadState::ended;
  buffer_.append(chunk, static_cast<std::size_t>(got));
  if (take_line(line)) return ReadState::line;
  // A worker that a peer has taken over must not fill the parent's memory.
  if (buffer_.size() > kEventBytesMax) return ReadState::broken;
  return ReadState::nothing_yet;
}

void WorkerProcess::send(std::string_view text) {
  while (!text.empty()) {
    const auto put = ::send(input_, text.data(), text.size(), MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return;  // the worker has ended, and read_line() will say so
    text.remove_prefix(static_cast<std::size_t>(put));
  }
}

void WorkerProcess::ask_to_stop() { send("stop\n"); }

std::string WorkerProcess::wait() {
  // A worker that has closed its output is about to end. It gets two seconds before it is killed, so that an
  // exit code or signal of its own can be reported.
  constexpr int kTries = 200;
  int status = 0;
  for (int i = 0; i < kTries; ++i) {
    if (::waitpid(process_, &status, WNOHANG) == process_) return take_end(status);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ::kill(process_, SIGKILL);
  while (::waitpid(process_, &status, 0) < 0 && errno == EINTR) {
  }
  return take_end(status);
}

std::string WorkerProcess::take_end(int status) {
  process_ = -1;
  if (WIFSIGNALED(status)) return "killed by signal " + std::to_string(WTERMSIG(status));
  return "exit code " + std::to_string(WEXITSTATUS(status));
}

}  // namespace sluice::fetch
