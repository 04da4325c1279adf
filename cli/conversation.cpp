// The loop of a conversation. Everything happens on the main thread: a line is read, a command is obeyed or a
// message answered, and the next line is read.
//
// The session keeps the keys and values of all that it has computed. The next prompt repeats the conversation
// so far, so only what differs from it is computed: computed_ has the session's tokens, and the session
// forgets those behind the common beginning. A text that was encoded anew may differ from the tokens that the
// model chose; that costs time and nothing else.
//
// An error that the person can do something about, such as a template that refuses a message, is told and the
// conversation goes on without the message. Other errors end it.

#include "cli/conversation.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/output.h"
#include "base/text.h"
#include "cli/answer_printer.h"
#include "cli/chat_options.h"
#include "cli/environment.h"
#include "cli/generation_report.h"
#include "cli/interrupt.h"
#include "cli/line_reader.h"
#include "cli/residency.h"
#include "format/json.h"
#include "library/library.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ErrorKind;
using format::Json;
using runtime::TokenId;

constexpr std::uint64_t kContextTokens = 32768;  // where nobody has said how long it may be
constexpr std::uint64_t kContextTokensMin = 2048;
constexpr std::string_view kQuotes = "\"\"\"";
constexpr std::string_view kSavedKey = "sluice_conversation";

constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kCommands = {{
    {"/help", "list the commands"},
    {"/clear", "forget the conversation"},
    {"/save FILE", "write the conversation to FILE, as JSON"},
    {"/system TEXT", "set the system prompt; without TEXT show it"},
    {"/stats", "say how much of the context is used, and how fast the last answer was"},
    {"/exit", "end; Ctrl-D does too"},
}};

std::string trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(" \t") - first + 1));
}

/// Why an existing file is no conversation that /save has written; empty when it is one.
std::string problem_of_saved(const fs::path& path) {
  try {
    const Json saved = format::parse_json(base::read_text_file(path), path.string());
    if (saved.find(kSavedKey) != nullptr) return {};
  } catch (const Error&) {
    return "is no saved conversation";
  }
  return "is no saved conversation";
}

class Conversation final {
 public:
  Conversation(const RunOptions& values, const runtime::Model& model, const fs::path& path,
               std::optional<std::uint64_t> trained_tokens, const Invocation& invocation)
      : values_(values),
        model_(model),
        path_(path),
        console_(invocation.console),
        loading_stop_(invocation.stop),
        reader_(invocation.console),
        format_(model.chat_format()),
        options_({.variables = parse_chat_variables(values.chat_variables)}),
        session_(open_session(trained_tokens, invocation.stop)),
        system_(values.system) {}

  int run() {
    // Ctrl-C while the model was opened.
    if (loading_stop_.stop_requested()) throw Error(ErrorKind::interrupted, "interrupted");
    console_.note(path_.filename().string() + ": a message and the return key; /help lists the commands");
    while (!ended_) {
      const Line line = read_message();
      if (line.end == Line::End::closed) break;
      if (line.end == Line::End::interrupted) {
        console_.note("Ctrl-D or /exit ends the conversation");
        continue;
      }
      if (trimmed(line.text).empty()) continue;
      try {
        if (line.text.front() == '/' && !line.text.starts_with("//")) {
          obey(line.text);
        } else {
          answer(line.text.substr(line.text.front() == '/' ? 1 : 0));
        }
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::usage) throw;
        console_.note(std::string("not done: ") + error.what());
      }
    }
    return 0;
  }

 private:
  /// A context that nobody asked for is halved until its keys and values fit into memory.
  [[nodiscard]] runtime::Session open_session(std::optional<std::uint64_t> trained_tokens,
                                              const std::stop_token& stop) const {
    runtime::SessionOptions options;
    options.thread_count = values_.model.thread_count;
    options.kv = runtime::parse_kv_type(values_.kv);
    options.memory_bytes = values_.memory_bytes;
    options.isa = forced_isa();
    options.matmul = matmul_engine();
    options.stop = stop;
    // The beginnings of the last two answers: the next prompt may repeat the last answer without its
    // thinking, or leave out a message that was refused.
    options.snapshots = 2;
    options.context_tokens =
        values_.context_tokens.value_or(std::min(trained_tokens.value_or(kContextTokens), kContextTokens));
    while (true) {
      try {
        runtime::Session session(model_, options);
        warn_of_memory(session.residency_stats(), console_);
        if (values_.context_tokens == std::nullopt && options.context_tokens < kContextTokens)
          console_.note("the context has " + base::to_counted(options.context_tokens, "token"));
        return session;
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::usage || values_.context_tokens ||
            options.context_tokens < 2 * kContextTokensMin)
          throw;
        options.context_tokens /= 2;
      }
    }
  }

  /// A line, or several: each that ends with a backslash goes on in the next, and so does all text between
  /// two lines of three quotes.
  [[nodiscard]] Line read_message() {
    Line line = reader_.read(">>> ");
    if (line.end != Line::End::line) return line;
    if (line.text.starts_with(kQuotes)) {
      line.text.erase(0, kQuotes.size());
      while (!line.text.ends_with(kQuotes))
        if (!append_line(line)) return line;
      line.text.resize(line.text.size() - kQuotes.size());
      // Quotes that stand on lines of their own do not make the message begin and end with empty lines.
      if (line.text.starts_with('\n')) line.text.erase(0, 1);
      if (line.text.ends_with('\n')) line.text.pop_back();
      return line;
    }
    while (line.text.ends_with('\\')) {
      line.text.pop_back();
      if (!append_line(line)) return line;
    }
    return line;
  }

  /// False when there is no further line; `line` then tells how the message ended.
  [[nodiscard]] bool append_line(Line& line) {
    const Line next = reader_.read("... ");
    line.end = next.end;
    if (next.end != Line::End::line) return false;
    line.text += '\n' + next.text;
    return true;
  }

  void obey(const std::string& line) {
    const std::size_t space = std::min(line.find(' '), line.size());
    const std::string name = line.substr(0, space);
    const std::string rest = trimmed(std::string_view(line).substr(space));
    if (name == "/help") {
      for (const auto& [command, meaning] : kCommands) {
        console_.note(std::string(command) + std::string(14 - command.size(), ' ') + std::string(meaning));
      }
      console_.note("A line that ends with \\ goes on in the next one, and so does text between two \"\"\".");
    } else if (name == "/clear") {
      messages_.clear();
      console_.note("the conversation is forgotten");
    } else if (name == "/save") {
      save(rest);
    } else if (name == "/system") {
      if (!rest.empty()) system_ = rest;
      console_.note(system_.empty() ? "there is no system prompt" : "system prompt: " + system_);
    } else if (name == "/stats") {
      console_.note(base::to_counted(computed_.size(), "token") + " of " +
                    std::to_string(session_.context_tokens()) + " of the context are used");
      if (!statistics_.empty()) console_.note(statistics_);
    } else if (name == "/exit" || name == "/quit" || name == "/bye") {
      ended_ = true;
    } else {
      console_.note("unknown command '" + name +
                    "': /help lists the commands, and // begins a message with /");
    }
  }

  [[nodiscard]] std::vector<text::Message> with_system() const {
    std::vector<text::Message> all;
    if (!system_.empty()) all.push_back({text::Role::system, system_});
    all.insert(all.end(), messages_.begin(), messages_.end());
    return all;
  }

  void save(const std::string& file) const {
    if (file.empty()) throw Error(ErrorKind::usage, "/save needs the name of a file");
    const fs::path path = base::output_path(file, "conversation.json");
    base::require_output(path, {.inputs = library::input_files(path_),
                                .problem = problem_of_saved,
                                .overwrite = values_.overwrite,
                                .option = ""});
    Json messages = Json::array();
    for (const text::Message& message : with_system()) {
      Json json = Json::object({{"role", text::to_string(message.role)}, {"content", message.content}});
      if (!message.thinking.empty()) json.set("thinking", message.thinking);
      messages.push_back(std::move(json));
    }
    const Json saved = Json::object(
        {{kSavedKey.data(), 1}, {"model", path_.filename().string()}, {"messages", std::move(messages)}});
    base::write_file(base::output_target(path), base::as_bytes(saved.dump_pretty()));
    console_.note("saved: " + path.string());
  }

  void answer(std::string text) {
    messages_.push_back({text::Role::user, std::move(text)});
    try {
      const auto [ids, opens_thinking] = format_.prompt(with_system(), options_);
      if (ids.size() >= session_.context_tokens()) {
        throw Error(ErrorKind::usage, "the conversation has " + base::to_counted(ids.size(), "token") +
                                          ", the context holds " + std::to_string(session_.context_tokens()) +
                                          ": /clear begins anew; sluice run --context N makes it longer");
      }
      generate(ids, opens_thinking);
    } catch (const Error& error) {
      // The message stays out of the conversation that goes on.
      if (error.kind() == ErrorKind::usage) messages_.pop_back();
      throw;
    }
  }

  void generate(const std::vector<TokenId>& ids, bool opens_thinking) {
    const std::uint64_t reused = forget_what_differs(ids);
    const std::stop_token stop = InterruptHandler::renew();
    session_.set_stop(stop);
    RunOptions values = values_;
    values.sampling.seed += answers_++;
    text::AnswerSplitter splitter(format_, model_.tokenizer(), opens_thinking);
    AnswerPrinter printer(console_, values_.hide_thinking);
    std::size_t given_bytes = 0;
    const auto generation = runtime::generate(
        session_, model_, ids, tokens_max(), values.sampling,
        [&](TokenId id, std::string_view text) {
          given_bytes += text.size();
          printer.show(splitter.add(id, text));
        },
        stop, values.stop_texts);
    // Text that was held back when the answer was interrupted.
    printer.show(splitter.finish(std::string_view(generation.text).substr(given_bytes)));
    console_.write_generated("\n");
    computed_ = ids;
    computed_.insert(computed_.end(), generation.ids.begin(), generation.ids.end());
    computed_.resize(std::min<std::size_t>(computed_.size(), static_cast<std::size_t>(session_.position())));
    statistics_ = statistics_line(generation, ids.size(), reused, "the conversation so far", values);
    if (values_.stats) console_.report(statistics_);
    if (InterruptHandler::terminated()) throw Error(ErrorKind::interrupted, "interrupted");
    keep(printer.take(), generation.stop);
  }

  /// -1 of --tokens, and no --tokens, let the model end its answer.
  [[nodiscard]] std::uint64_t tokens_max() const {
    return values_.tokens_given && values_.tokens_max > 0 ? static_cast<std::uint64_t>(values_.tokens_max)
                                                          : session_.context_tokens();
  }

  /// Returns the number of the prompt's tokens that the session has computed already. The last one is always
  /// computed, because its logits are needed.
  [[nodiscard]] std::uint64_t forget_what_differs(std::span<const TokenId> ids) {
    const auto common = std::ranges::mismatch(computed_, ids.first(ids.size() - 1));
    const auto count = static_cast<std::uint64_t>(common.in1 - computed_.begin());
    return session_.truncate(count);
  }

  void keep(text::Message answer, runtime::StopReason stop) {
    if (answer.content.empty() && answer.thinking.empty()) {
      messages_.pop_back();
      console_.note("there is no answer; the message is forgotten");
      return;
    }
    messages_.push_back(std::move(answer));
    if (stop == runtime::StopReason::length && session_.position() == session_.context_tokens())
      console_.note("the context of " + base::to_counted(session_.context_tokens(), "token") +
                    " is full: /clear begins anew; sluice run --context N makes it longer");
  }

  const RunOptions& values_;
  const runtime::Model& model_;
  const fs::path path_;
  Console& console_;
  const std::stop_token loading_stop_;
  LineReader reader_;
  text::ChatFormat format_;
  text::ChatOptions options_;
  runtime::Session session_;
  std::string system_;
  std::vector<text::Message> messages_;
  std::vector<TokenId> computed_;  // the session's tokens
  std::string statistics_;         // of the last answer
  std::uint64_t answers_ = 0;
  bool ended_ = false;
};

}  // namespace

int converse(const RunOptions& values, const runtime::Model& model, const fs::path& path,
             std::optional<std::uint64_t> trained_tokens, const Invocation& invocation) {
  return Conversation(values, model, path, trained_tokens, invocation).run();
}

}  // namespace sluice::cli
