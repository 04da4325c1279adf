// From conversations to token ids. With a chat template the whole text is encoded at once, and the bytes that
// the template wrote are the only ones of which control pieces are made. Mistral's own formats push their
// control pieces as ids and encode each message by itself, as in training: one text for all would join pieces
// across messages. Versions 2 and 3 differ from each other only in how they write tool calls, which Sluice
// does not have; so do versions 7 to 13. A model answers well only to the exact ids that it was trained on,
// so a difference of one space matters here. Thread-safe after construction, like the tokenizer.

#include <algorithm>
#include <array>
#include <ctime>
#include <iterator>

#include "base/error.h"
#include "base/invariant.h"
#include "base/text.h"
#include "text/text.h"

namespace sluice::text {
namespace {

using format::Json;

constexpr const char* kEffort = "reasoning_effort";

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

Message to_message(const Json& json, std::size_t number) {
  const std::string subject = "conversation: message " + std::to_string(number);
  const std::string& role = json.at("role", subject).as_string(subject + ": role");
  for (const Role known : {Role::system, Role::user, Role::assistant})
    if (role == to_string(known))
      return {.role = known, .content = json.at("content", subject).as_string(subject + ": content")};
  refuse("message " + std::to_string(number) + " has the role '" + role +
         "', expected system, user or assistant");
}

Json to_json(std::span<const Message> conversation) {
  Json messages = Json::array();
  for (const Message& message : conversation) {
    if (message.role == Role::system && message.content.empty()) continue;
    Json json = Json::object({{"role", to_string(message.role)}, {"content", message.content}});
    if (!message.thinking.empty()) {
      json.set("reasoning_content", message.thinking);
      json.set("thinking", message.thinking);  // gpt-oss
    }
    messages.push_back(std::move(json));
  }
  return messages;
}

bool ends_within_thinking(std::string_view text) {
  const std::size_t open = text.rfind("<think>");
  return open != std::string_view::npos &&
         text.find_first_not_of(" \t\r\n", open + 7) == std::string_view::npos;
}

ChatFormat::Kind mistral_kind(const Tokenizer& tokenizer, TokenizerKind kind) {
  constexpr std::string_view kNoTemplate = "the release has no chat template";
  const auto has = [&](std::string_view piece) { return tokenizer.control_id(piece).has_value(); };
  const auto none = [&](const std::string& cause) -> ChatFormat::Kind {
    throw base::Error(base::ErrorKind::usage, std::string(kNoTemplate) + cause +
                                                  ": it can be given a prompt as it is, but no conversation");
  };
  const bool marks = has("[INST]") && has("[/INST]");
  const bool system_marks = has("[SYSTEM_PROMPT]") && has("[/SYSTEM_PROMPT]");
  if (kind == TokenizerKind::tekken) {
    if (!marks) return none(", and its tekken.json has no pieces for turns");
    const MistralChat* chat = tokenizer.mistral_chat();
    INVARIANT(chat != nullptr);  // every reader of a tekken.json sets it
    const int version = chat->version;
    if (version == 3) return ChatFormat::Kind::mistral_v3;
    if (version >= 7 && version <= 13 && system_marks) return ChatFormat::Kind::mistral_v7;
    const bool settings_marks = has("[MODEL_SETTINGS]") && has("[/MODEL_SETTINGS]");
    if (version == 15 && system_marks && (settings_marks || chat->reasoning_efforts.empty()))
      return ChatFormat::Kind::mistral_v15;
    return none(", and version " + std::to_string(version) + " of Mistral's chat formats is not supported");
  }
  if (kind == TokenizerKind::hugging_face) return none("");
  if (marks) return system_marks ? ChatFormat::Kind::mistral_v7 : ChatFormat::Kind::mistral_v3;
  // Fine-tunes of version 1 add pieces for turns of another format.
  if (has("<|im_start|>") || has("<|user|>")) return none(", though its tokenizer has pieces for turns");
  return ChatFormat::Kind::mistral_v1;
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

ChatFormat::ChatFormat(const Tokenizer& tokenizer, const ChatFormatSource& source) : tokenizer_(tokenizer) {
  if (!source.chat_template) {
    kind_ = mistral_kind(tokenizer, source.tokenizer_kind);
    return;
  }
  kind_ = Kind::chat_template;
  template_.emplace(*source.chat_template, source.subject);
  bos_token_ = config_token_text(source.tokenizer_config, "bos_token");
  eos_token_ = config_token_text(source.tokenizer_config, "eos_token");
  // A tokenizer without configuration knows its own.
  if (!source.tokenizer_config.empty()) return;
  if (const auto bos = tokenizer.bos()) bos_token_ = tokenizer.control_text(*bos);
  eos_token_ = tokenizer.control_text(tokenizer.eos());
}

MarkedText ChatFormat::render(const Json& messages, const ChatOptions& options) const {
  return template_->render({.messages = messages,
                            .variables = options.variables,
                            .bos_token = bos_token_,
                            .eos_token = eos_token_,
                            .add_generation_prompt = options.add_generation_prompt,
                            .unix_time_s = options.unix_time_s.value_or(std::time(nullptr))});
}

ChatPrompt ChatFormat::prompt(const Json& messages, const ChatOptions& options) const {
  if (template_) {
    const MarkedText text = render(messages, options);
    return {.ids = tokenizer_.encode(text.text, text.trusted),
            .opens_thinking = options.add_generation_prompt && ends_within_thinking(text.text)};
  }
  const auto& variables = options.variables.as_object("template variables");
  for (const auto& [name, value] : variables)
    if (kind_ != Kind::mistral_v15 || name != kEffort)
      refuse("Mistral's chat formats have no variable '" + name + "'" +
             (kind_ == Kind::mistral_v15 ? " but reasoning_effort" : ""));
  std::vector<Message> conversation;
  for (const Json& message : messages.as_array("conversation"))
    conversation.push_back(to_message(message, conversation.size() + 1));
  return {.ids = encode_mistral(conversation, options)};
}

ChatPrompt ChatFormat::prompt(std::span<const Message> conversation, const ChatOptions& options) const {
  return prompt(to_json(conversation), options);
}

std::vector<TokenId> ChatFormat::encode(std::span<const Message> conversation) const {
  if (!template_) return encode_mistral(conversation, {});
  ChatOptions options;
  options.add_generation_prompt = conversation.empty() || conversation.back().role != Role::assistant;
  return prompt(conversation, options).ids;
}

std::optional<TokenId> ChatFormat::end_of_turn() const {
  if (!template_) return std::nullopt;
  // Letters that no template writes, so that the answer can be found in the text.
  constexpr std::string_view kAnswer = "qzxjvkqz";
  const std::array<Message, 3> turns = {
      {{Role::user, "a"}, {Role::assistant, std::string(kAnswer)}, {Role::user, "b"}}};
  MarkedText prompt;
  MarkedText history;
  try {
    prompt = render(to_json(std::span(turns).first(1)), {.unix_time_s = 0});
    history = render(to_json(turns), {.add_generation_prompt = false, .unix_time_s = 0});
  } catch (const base::Error&) {
    return std::nullopt;  // the template refuses such a conversation
  }
  const std::size_t answer = history.text.find(kAnswer);
  if (answer == std::string::npos || !prompt.text.starts_with(history.text.substr(0, answer)))
    return std::nullopt;
  const std::size_t end = answer + kAnswer.size();
  const auto closing = std::ranges::find(history.trusted, end, &TextRange::begin);
  if (closing == history.trusted.end()) return std::nullopt;
  const std::string rest = history.text.substr(end, closing->end - end);
  const std::array<TextRange, 1> trusted = {{{0, rest.size()}}};
  const auto ids = tokenizer_.encode(rest, trusted);
  if (ids.empty()) return std::nullopt;
  const std::string piece = tokenizer_.control_text(ids.front());
  return !piece.empty() && rest.starts_with(piece) ? std::optional(ids.front()) : std::nullopt;
}

bool ChatFormat::uses_channels() const {
  return template_ &&
         std::ranges::all_of(std::array{"<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"},
                             [&](const char* piece) { return tokenizer_.control_id(piece).has_value(); });
}

std::vector<TokenId> ChatFormat::ends_of_turn() const {
  std::vector<TokenId> ends;
  if (uses_channels()) {
    // Of the last message, and of a call of a tool. "<|end|>" ends a message that another one follows.
    for (const char* piece : {"<|return|>", "<|call|>"})
      if (const auto id = tokenizer_.control_id(piece)) ends.push_back(*id);
  } else if (const auto end = end_of_turn()) {
    ends.push_back(*end);
  }
  return ends;
}

/// The settings are one JSON object, written as Python writes it.
void ChatFormat::append_settings(const ChatOptions& options, std::vector<TokenId>& ids) const {
  const MistralChat& chat = *tokenizer_.mistral_chat();
  const Json* asked = options.variables.find(kEffort);
  std::optional<std::string> effort = chat.default_effort;
  if (asked != nullptr && !asked->is_null()) {
    effort = asked->as_string("variable reasoning_effort");
    if (std::ranges::find(chat.reasoning_efforts, *effort) == chat.reasoning_efforts.end()) {
      std::string known;
      for (const std::string& one : chat.reasoning_efforts) known += (known.empty() ? "" : ", ") + one;
      refuse("the model has no reasoning_effort '" + base::to_printable(effort->substr(0, 100)) +
             (known.empty() ? "'" : "', it knows " + base::to_printable(known)));
    }
  }
  if (!effort) return;
  ids.push_back(control("[MODEL_SETTINGS]"));
  std::ranges::copy(tokenizer_.encode("{\"reasoning_effort\": " + Json(*effort).dump() + "}"),
                    std::back_inserter(ids));
  ids.push_back(control("[/MODEL_SETTINGS]"));
}

std::vector<TokenId> ChatFormat::encode_mistral(std::span<const Message> conversation,
                                                const ChatOptions& options) const {
  const bool has_system = !conversation.empty() && conversation[0].role == Role::system;
  const std::span<const Message> turns = conversation.subspan(has_system ? 1 : 0);
  check_turns(turns, has_system ? 2 : 1);
  const std::string system = has_system ? conversation[0].content : std::string();
  // Turns alternate from the user on, so user messages have even indices.
  const std::size_t last_user = (turns.size() - 1) / 2 * 2;
  const std::size_t with_system = kind_ == Kind::mistral_v1 ? 0 : last_user;

  std::vector<TokenId> ids = tokenizer_.encode_prompt({});  // BOS alone
  const bool marked = kind_ == Kind::mistral_v7 || kind_ == Kind::mistral_v15;
  if (marked && !system.empty()) {
    ids.push_back(control("[SYSTEM_PROMPT]"));
    std::ranges::copy(tokenizer_.encode(system), std::back_inserter(ids));
    ids.push_back(control("[/SYSTEM_PROMPT]"));
  }
  if (kind_ == Kind::mistral_v15) append_settings(options, ids);
  for (std::size_t i = 0; i < turns.size(); ++i) {
    const std::string& content = turns[i].content;
    if (turns[i].role == Role::assistant) {
      append_assistant(content, ids);
    } else if (!marked && i == with_system && !system.empty()) {
      append_user(system + "\n\n" + content, ids);
    } else {
      append_user(content, ids);
    }
  }
  return ids;
}

TokenId ChatFormat::control(std::string_view piece) const {
  const auto id = tokenizer_.control_id(piece);
  INVARIANT(id);  // mistral_kind() asked for it
  return *id;
}

void ChatFormat::append_user(std::string_view content, std::vector<TokenId>& ids) const {
  if (kind_ == Kind::mistral_v1) {
    // The marks are tokenized together with the text, as in training, so a user's text can spell them.
    std::ranges::copy(tokenizer_.encode("[INST] " + std::string(content) + " [/INST]"),
                      std::back_inserter(ids));
    return;
  }
  // Marks are pushed as ids, so no text of a user can produce one.
  ids.push_back(control("[INST]"));
  std::ranges::copy(tokenizer_.encode(content), std::back_inserter(ids));
  ids.push_back(control("[/INST]"));
}

void ChatFormat::append_assistant(std::string_view content, std::vector<TokenId>& ids) const {
  // mistral-common strips spaces behind an answer from version 2 on.
  if (kind_ != Kind::mistral_v1) content = content.substr(0, content.find_last_not_of(' ') + 1);
  std::ranges::copy(tokenizer_.encode(content), std::back_inserter(ids));
  ids.push_back(tokenizer_.eos());
}

}  // namespace sluice::text
