// Reads answers, and restores the terminal on every way out. While an answer is awaited, all signals that end
// or stop the program are blocked except inside ppoll(), whose handler only notes the signal: so none of them
// is lost between a check and the wait, and none ends the program while echo is off. What the signal asks for
// is done after the terminal was restored.

#include "cli/terminal.h"

#include <poll.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <span>
#include <utility>

#include "base/ed25519.h"
#include "base/error.h"

namespace sluice::cli {
namespace {

constexpr std::size_t kLineBytesMax = 1024;
volatile sig_atomic_t noted_signal = 0;

pthread_t waiting_thread;  // the one that holds the signals

// The kernel gives a signal to any thread that does not block it, and a worker's would not end the wait: it
// is passed on, to arrive where it is waited for.
extern "C" void note_signal(int number) {
  if (::pthread_equal(::pthread_self(), waiting_thread) != 0) {
    noted_signal = number;
  } else {
    ::pthread_kill(waiting_thread, number);
  }
}

/// Turns the terminal's echo off as long as the object lives.
class EchoOff final {
 public:
  EchoOff() {
    if (::tcgetattr(STDIN_FILENO, &before_) != 0)
      throw base::Error(base::ErrorKind::usage,
                        "there is no terminal to ask for the password: give it by --password-stdin");
    termios silent = before_;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    // TCSAFLUSH drops what was typed before the question, which was echoed already.
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
  }
  ~EchoOff() { ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_); }
  EchoOff(const EchoOff&) = delete;
  EchoOff& operator=(const EchoOff&) = delete;

 private:
  termios before_{};
};

struct Answer {
  std::string line;
  int signal = 0;  ///< the signal that ended the wait
};

/// Reads one line of stdin, byte by byte, so that later input stays unread.
Answer read_line(const SignalsHeld& signals) {
  Answer answer;
  answer.line.reserve(kLineBytesMax);  // a growing string would leave copies of a password in freed memory
  while (answer.line.size() < kLineBytesMax) {
    answer.signal = signals.wait_for_input();
    if (answer.signal != 0) break;
    char byte = 0;
    const auto got = ::read(STDIN_FILENO, &byte, 1);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    // The end of the input ends the line as well, so `printf PASSWORD |` works without a newline.
    if (got <= 0 || byte == '\n') break;
    answer.line += byte;
  }
  return answer;
}

}  // namespace

SignalsHeld::SignalsHeld() {
  sigset_t held;
  ::sigemptyset(&held);
  for (const int number : kAwaitedSignals) ::sigaddset(&held, number);
  ::pthread_sigmask(SIG_BLOCK, &held, &before_);
  noted_signal = 0;
  waiting_thread = ::pthread_self();
  for (std::size_t i = 0; i < kAwaitedSignals.size(); ++i) install(i);
}

SignalsHeld::~SignalsHeld() {
  for (std::size_t i = 0; i < kAwaitedSignals.size(); ++i)
    ::sigaction(kAwaitedSignals[i], &actions_[i], nullptr);
  // A signal that has arrived since then is delivered here, to the handler from before.
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

int SignalsHeld::wait_for_input() const {
  struct pollfd input {
    STDIN_FILENO, POLLIN, 0
  };
  noted_signal = 0;
  const int ready = ::ppoll(&input, 1, nullptr, &before_);
  return ready < 0 && errno == EINTR ? noted_signal : 0;
}

void SignalsHeld::obey(int number) const {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  struct sigaction noting {};
  ::sigaction(number, &standard, &noting);
  sigset_t one;
  ::sigemptyset(&one);
  ::sigaddset(&one, number);
  ::raise(number);
  ::pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
  ::pthread_sigmask(SIG_BLOCK, &one, nullptr);
  ::sigaction(number, &noting, nullptr);
}

void SignalsHeld::act_on(int number) const {
  if (number == SIGINT || number == SIGTERM) throw base::Error(base::ErrorKind::interrupted, "interrupted");
  obey(number);
}

void SignalsHeld::install(std::size_t i) {
  struct sigaction noting {};
  noting.sa_handler = note_signal;
  ::sigaction(kAwaitedSignals[i], nullptr, &actions_[i]);
  // An ignored signal stays ignored: nohup(1) ignores SIGHUP, and a shell without job control SIGTSTP.
  if (actions_[i].sa_handler != SIG_IGN) ::sigaction(kAwaitedSignals[i], &noting, nullptr);
}

Password::~Password() { base::wipe(std::as_writable_bytes(std::span(text_))); }

// Moving a short string copies it, so the text of the moved one must be overwritten.
Password::Password(Password&& other) noexcept : text_(other.text_) {
  base::wipe(std::as_writable_bytes(std::span(other.text_)));
}

bool can_ask(const Console& console) {
  return !console.json() && !console.quiet() && ::isatty(STDIN_FILENO) == 1 && ::isatty(STDERR_FILENO) == 1;
}

bool can_converse(const Console& console) { return can_ask(console) && ::isatty(STDOUT_FILENO) == 1; }

Password ask_password(Console& console, const std::string& question) {
  const SignalsHeld signals;
  while (true) {
    Answer answer;
    {
      const EchoOff hidden;
      console.ask(question);
      answer = read_line(signals);
    }
    // The newline that ended the answer was not echoed.
    console.end_answer();
    Password password(std::move(answer.line));
    if (answer.signal == 0) return password;
    signals.act_on(answer.signal);
  }
}

Password read_password() {
  const SignalsHeld signals;
  while (true) {
    Answer answer = read_line(signals);
    Password password(std::move(answer.line));
    if (answer.signal == 0) return password;
    signals.act_on(answer.signal);
  }
}

bool ask_yes_no(Console& console, const std::string& question) {
  const SignalsHeld signals;
  while (true) {
    console.ask(question + " [y/N] ");
    const Answer answer = read_line(signals);
    // Everything but a clear yes counts as a no, also an empty line and the end of the input.
    if (answer.signal == 0) return answer.line == "y" || answer.line == "Y" || answer.line == "yes";
    console.end_answer();
    signals.act_on(answer.signal);
  }
}

}  // namespace sluice::cli
