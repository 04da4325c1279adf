// libedit asks for one character at a time, and read_character() waits for it as terminal.cpp waits for an
// answer: signals are noted only there, so Ctrl-C ends the line and never the program, and the terminal is
// always set back by libedit before a signal is obeyed. libedit writes the prompt and what is typed to stderr
// itself; that is the only output of the program that does not go through the Console.

#include "cli/line_reader.h"

#include <histedit.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cwchar>

#include "base/error.h"
#include "cli/environment.h"
#include "cli/terminal.h"

namespace sluice::cli {
namespace {

constexpr int kHistoryLines = 500;

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using OwnedFile = std::unique_ptr<std::FILE, FileCloser>;

struct EditLineEnd {
  void operator()(EditLine* line) const { ::el_end(line); }
};

struct HistoryEnd {
  void operator()(History* history) const { ::history_end(history); }
};

OwnedFile open_null(const char* mode) { return OwnedFile(std::fopen("/dev/null", mode)); }

/// A second descriptor of stderr, so that libedit's buffer is its own.
OwnedFile open_stderr() {
  const int copy = ::dup(STDERR_FILENO);
  OwnedFile file(copy < 0 ? nullptr : ::fdopen(copy, "w"));
  return file ? std::move(file) : open_null("w");
}

}  // namespace

struct LineReader::Impl {
  explicit Impl(Console& where) : console(where) {
    // Characters of several bytes need a locale of UTF-8, whatever the environment says. Only this category:
    // numbers keep their decimal point.
    std::setlocale(LC_CTYPE, "C.UTF-8");
    line.reset(::el_init("sluice", stdin, output.get(), errors.get()));
    history.reset(::history_init());
    if (!line || !history)
      throw base::Error(base::ErrorKind::io, "the terminal cannot be set up for reading");
    HistEvent event;
    ::history(history.get(), &event, H_SETSIZE, kHistoryLines);
    ::history(history.get(), &event, H_SETUNIQUE, 1);
    ::el_set(line.get(), EL_CLIENTDATA, this);
    ::el_set(line.get(), EL_PROMPT, prompt_of);
    ::el_set(line.get(), EL_SIGNAL, 0);
    ::el_set(line.get(), EL_EDITOR, "emacs");
    ::el_set(line.get(), EL_HIST, ::history, history.get());
    ::el_set(line.get(), EL_GETCFN, read_character);
    ::el_set(line.get(), EL_EDITMODE, cursor_moves_allowed() ? 1 : 0);
  }

  static Impl& of(EditLine* edit) {
    void* self = nullptr;
    ::el_get(edit, EL_CLIENTDATA, &self);
    return *static_cast<Impl*>(self);
  }

  static char* prompt_of(EditLine* edit) { return of(edit).prompt.data(); }

  /// el_rfunc_t: 1 for a character, 0 at the end of the input, -1 for a signal.
  static int read_character(EditLine* edit, wchar_t* character) {
    Impl& self = of(edit);
    std::mbstate_t state{};
    while (true) {
      self.signal = self.signals->wait_for_input();
      if (self.signal != 0) return -1;
      char byte = 0;
      const auto got = ::read(STDIN_FILENO, &byte, 1);
      if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (got <= 0) return 0;
      const std::size_t used = std::mbrtowc(character, &byte, 1, &state);
      if (used == static_cast<std::size_t>(-2)) continue;  // more bytes to come
      // Bytes that are no UTF-8 are shown as such, and do not end the line.
      if (used == static_cast<std::size_t>(-1)) {
        *character = L'\xFFFD';
      } else if (used == 0) {
        *character = L'\0';
      }
      return 1;
    }
  }

  Console& console;
  OwnedFile output = open_stderr();
  OwnedFile errors = open_null("w");  // remarks about unknown terminals
  std::unique_ptr<EditLine, EditLineEnd> line;
  std::unique_ptr<History, HistoryEnd> history;
  std::string prompt;
  const SignalsHeld* signals = nullptr;  // during read()
  int signal = 0;                        // that ended the last read_character()
};

LineReader::LineReader(Console& console) : impl_(std::make_unique<Impl>(console)) {}
LineReader::~LineReader() = default;

Line LineReader::read(const std::string& prompt) {
  impl_->console.clear_status();
  impl_->prompt = prompt;
  const SignalsHeld signals;
  impl_->signals = &signals;
  while (true) {
    impl_->signal = 0;
    ::el_resize(impl_->line.get());
    int count = 0;
    const char* const got = ::el_gets(impl_->line.get(), &count);
    if (impl_->signal != 0) {
      impl_->console.end_answer();
      ::el_reset(impl_->line.get());
      if (impl_->signal == SIGINT) return {Line::End::interrupted, {}};
      signals.act_on(impl_->signal);
      continue;
    }
    if (got == nullptr || count <= 0) {
      impl_->console.end_answer();
      return {Line::End::closed, {}};
    }
    std::string text(got, static_cast<std::size_t>(count));
    while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
    HistEvent event;
    if (!text.empty()) ::history(impl_->history.get(), &event, H_ENTER, text.c_str());
    return {Line::End::line, std::move(text)};
  }
}

}  // namespace sluice::cli
