// Mistral's instruction formats, as mistral-common builds them (tokens/tokenizers/instruct.py). Versions 2
// and 3 differ from each other only in how they write tool calls, which Sluice does not have. A model answers
// well only to the exact ids that it was trained on, so a difference of one space matters here. Thread-safe
// after construction, like the tokenizer.

#include <algorithm>
#include <iterator>

#include "base/error.h"
#include "base/invariant.h"
#include "text/text.h"

namespace sluice::text {
namespace {

[[noreturn]] void refuse(const std::string& cause) {
  throw base::Error(base::ErrorKind::usage, "conversation: " + cause);
}

/// Checks the messages after the system message; `numbered_from` is the number of the first of them.
void check_turns(std::span<const Message> turns, std::size_t numbered_from) {
  if (turns.empty()) refuse("there is no user message");
  for (std::size_t i = 0; i < turns.size(); ++i) {
    const Role expected = i % 2 == 0 ? Role::user : Role::assistant;
    const std::string number = "message " + std::to_string(numbered_from + i);
    if (turns[i].role != expected) {
      refuse(number + " has the role " + std::string(to_string(turns[i].role)) + ", expected " +
             std::string(to_string(expected)) +
             ": in Mistral's chat format user and assistant take turns after an optional system message");
    }
    if (expected == Role::assistant && turns[i].content.empty())
      refuse(number + ", of the assistant, is empty");
  }
}

}  // namespace

std::string_view to_string(Role role) {
  switch (role) {
    case Role::system: return "system";
    case Role::user: return "user";
    case Role::assistant: return "assistant";
  }
  INVARIANT(!"a Role without name");
}

// The tokenizer decides, because a model whose tokenizer has control pieces for the marks was trained with
// them.
ChatFormat::ChatFormat(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
  const auto begin = tokenizer.control_id("[INST]");
  const auto end = tokenizer.control_id("[/INST]");
  if (!begin || !end) return;
  kind_ = Kind::mistral_v3;
  begin_instruction_ = *begin;
  end_instruction_ = *end;
}

std::vector<TokenId> ChatFormat::encode(std::span<const Message> conversation) const {
  const bool has_system = !conversation.empty() && conversation[0].role == Role::system;
  const std::span<const Message> turns = conversation.subspan(has_system ? 1 : 0);
  check_turns(turns, has_system ? 2 : 1);
  // Turns alternate from the user on, so user messages have even indices.
  const std::size_t last_user = (turns.size() - 1) / 2 * 2;
  const std::size_t with_system = kind_ == Kind::mistral_v1 ? 0 : last_user;

  // BOS alone. Each message is tokenized by itself, as in training: one text for all would join pieces across
  // messages.
  std::vector<TokenId> ids = tokenizer_.encode_prompt({});
  for (std::size_t i = 0; i < turns.size(); ++i) {
    const std::string& content = turns[i].content;
    if (turns[i].role == Role::assistant) {
      append_assistant(content, ids);
    } else if (has_system && i == with_system && !conversation[0].content.empty()) {
      append_user(conversation[0].content + "\n\n" + content, ids);
    } else {
      append_user(content, ids);
    }
  }
  return ids;
}

void ChatFormat::append_user(std::string_view content, std::vector<TokenId>& ids) const {
  if (kind_ == Kind::mistral_v1) {
    // The marks are tokenized together with the text, as in training, so a user's text can spell them.
    std::ranges::copy(tokenizer_.encode("[INST] " + std::string(content) + " [/INST]"),
                      std::back_inserter(ids));
    return;
  }
  // Marks are pushed as ids, so no text of a user can produce one.
  ids.push_back(begin_instruction_);
  std::ranges::copy(tokenizer_.encode(content), std::back_inserter(ids));
  ids.push_back(end_instruction_);
}

void ChatFormat::append_assistant(std::string_view content, std::vector<TokenId>& ids) const {
  // mistral-common strips spaces behind an answer in these versions only.
  if (kind_ == Kind::mistral_v3) content = content.substr(0, content.find_last_not_of(' ') + 1);
  std::ranges::copy(tokenizer_.encode(content), std::back_inserter(ids));
  ids.push_back(tokenizer_.eos());
}

}  // namespace sluice::text
