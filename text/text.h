#pragma once
// Text to token ids and back: tokenizers, chat formats, and the text that generated tokens make.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "format/hub/tokenizer_file.h"
#include "format/json.h"

namespace sluice::format {
struct TokenizerParts;  // format/hub/sections.h
}

namespace sluice::text {

using TokenId = std::int32_t;

using format::TokenizerKind;

/// A half-open range of bytes of a text.
struct TextRange {
  std::size_t begin = 0;
  std::size_t end = 0;

  bool operator==(const TextRange&) const = default;
};

/// A token that a fine-tune has added to a tokenizer, or put in the place of one of its pieces.
struct AddedToken {
  TokenId id = 0;
  std::string text;
  bool control = true;  ///< piece_bytes() is empty, and control_id() finds it
};

/// The part of a release from which a tokenizer is made.
struct TokenizerBundle {
  TokenizerKind kind = TokenizerKind::sentencepiece;
  base::Bytes model;  ///< content of the file that `kind` names; read during the call only
  /// tokenizer_config.json, for `hugging_face` and `sentencepiece`: whether a BOS stands before a text, and,
  /// for the first, which tokens are BOS and EOS. Empty where the release has none.
  std::string_view config = {};
  /// Ids that end a text in addition to the tokenizer's own EOS; the first of them closes an answer.
  std::vector<TokenId> end_ids = {};
  std::vector<AddedToken> added = {};  ///< encode() never gives these
};

/// What a tekken.json says of Mistral's chat formats.
struct MistralChat {
  int version = 0;  ///< config.version
  /// The efforts of reasoning that a conversation may ask for; empty where the model has no such setting.
  std::vector<std::string> reasoning_efforts = {};
  std::optional<std::string> default_effort = {};  ///< of a conversation that asks for none
};

/// Splits text into pieces of a fixed vocabulary. Thread-safe after construction.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Text to ids, without BOS and EOS. A text never becomes a control piece, whatever it spells.
  [[nodiscard]] virtual std::vector<TokenId> encode(std::string_view text) const = 0;
  /// Does the same, but control pieces that are spelled inside one of the `trusted` ranges, which ascend and
  /// do not overlap, become those pieces. A piece that is spelled across the end of a range stays text.
  [[nodiscard]] virtual std::vector<TokenId> encode(std::string_view text,
                                                    std::span<const TextRange> trusted) const = 0;
  /// The bytes that an id stands for: a space for each word mark, one byte, perhaps in the middle of a
  /// character, for a byte piece, nothing for control pieces and for ids outside the vocabulary.
  [[nodiscard]] virtual std::string piece_bytes(TokenId id) const = 0;
  [[nodiscard]] virtual std::size_t size() const = 0;  ///< one more than the highest id
  /// The id that stands before every text; nothing for models that were trained without one.
  [[nodiscard]] virtual std::optional<TokenId> bos() const = 0;
  /// Whether each byte that is no part of a character becomes a U+FFFD, as SentencePiece decodes, and not all
  /// bytes of a character that is broken off one together.
  [[nodiscard]] virtual bool marks_each_broken_byte() const { return false; }
  /// The id that closes an answer in a chat.
  [[nodiscard]] virtual TokenId eos() const = 0;
  /// All ids after which a text ends, eos() among them.
  [[nodiscard]] virtual std::span<const TokenId> end_ids() const = 0;
  /// The id of a control piece; nothing where there is none of that name.
  [[nodiscard]] virtual std::optional<TokenId> control_id(std::string_view piece) const = 0;
  /// The spelling of a control piece ("<|im_end|>"), by which control_id() finds it; empty for other ids.
  [[nodiscard]] virtual std::string control_text(TokenId id) const = 0;
  /// nullptr unless it was made from a tekken.json.
  [[nodiscard]] virtual const MistralChat* mistral_chat() const { return nullptr; }

  /// True for an id after which a text ends.
  [[nodiscard]] bool is_end(TokenId id) const;
  /// BOS, where the model has one, and the ids of `text`.
  [[nodiscard]] std::vector<TokenId> encode_prompt(std::string_view text) const;
};

/// Error{malformed} naming `subject` when the bytes are no tokenizer of that kind or say something that is
/// not supported (docs/tokenizers.md), when there is neither EOS nor end id, when an id is negative, and when
/// a tokenizer.model or tekken.json has no BOS.
[[nodiscard]] std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerBundle& bundle,
                                                        std::string_view subject);

/// Makes the tokenizer of a release or of a container.
[[nodiscard]] std::unique_ptr<Tokenizer> open_tokenizer(const format::TokenizerParts& parts,
                                                        std::string_view subject);

/// Turns generated tokens into text that may be shown as it grows. Two kinds of text are held back: bytes
/// that are not yet a whole UTF-8 character, and text that could become the start of a stop text. So nothing
/// of a stop text is ever shown, and each result is valid UTF-8; bytes that can never become a character are
/// replaced by U+FFFD. The text ends before the stop text that is complete first, of two that end together
/// before the longer one. How the text was cut into tokens does not matter.
class TextStream {
 public:
  /// No stop text may be empty. `tokenizer` must outlive the stream.
  explicit TextStream(const Tokenizer& tokenizer, std::span<const std::string> stop_texts = {});

  /// Adds a token; returns the text that can be shown now. After stopped() it returns nothing.
  [[nodiscard]] std::string add(TokenId token);
  /// Ends the text; returns what was still held back, unless that completes a stop text.
  [[nodiscard]] std::string finish();
  /// True after a stop text came up.
  [[nodiscard]] bool stopped() const { return stopped_; }

 private:
  /// Takes the whole characters off `bytes_`; at the end of the text all of them.
  [[nodiscard]] std::string take_characters(bool at_end);
  /// Appends `text` to what is held back and returns the part that can be shown.
  [[nodiscard]] std::string pass(std::string_view text);
  /// Length in bytes of the longest end of `held_` with which a stop text begins.
  [[nodiscard]] std::size_t stop_prefix_bytes() const;

  const Tokenizer& tokenizer_;
  std::vector<std::string> stop_texts_;
  std::string bytes_;  // the start of a character
  std::string held_;   // whole characters that a stop text may begin with
  bool stopped_ = false;
};

enum class Role : std::uint8_t { system, user, assistant };

/// "system", "user" or "assistant".
[[nodiscard]] std::string_view to_string(Role role);

/// One turn of a conversation.
struct Message {
  Role role = Role::user;
  std::string content;        ///< UTF-8
  std::string thinking = {};  ///< of an assistant, before the answer; templates know it as reasoning_content
};

/// A text of which the template wrote some bytes and a user, a model or a tool the others.
struct MarkedText {
  std::string text;
  std::vector<TextRange> trusted;  ///< bytes that the template wrote, in ascending ranges
};

/// The input of a chat template.
struct ChatContext {
  format::Json messages;  ///< array of objects with role and content, and what else the caller has
  /// Object: tools, enable_thinking, reasoning_effort and the like. As in transformers, tools and documents
  /// are none where they are not given.
  format::Json variables = format::Json::object();
  std::optional<std::string> bos_token = {};  ///< the spelling of BOS and EOS, which counts as text of the
  std::optional<std::string> eos_token = {};  ///< template; undefined where a tokenizer has none
  bool add_generation_prompt = true;          ///< the text ends where the model's answer begins
  std::int64_t unix_time_s = 0;               ///< for strftime_now, in UTC
};

/// A chat template as releases have it (chat_template.jinja, tokenizer_config.json): the part of Jinja that
/// docs/chat-templates.md lists, with transformers' settings trim_blocks and lstrip_blocks. Thread-safe after
/// construction.
class ChatTemplate {
 public:
  /// Error{malformed} "SUBJECT: line 12: ..." for what is not Jinja, and for constructs that are not
  /// supported.
  ChatTemplate(std::string_view source, std::string_view subject);
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;

  /// Error{usage} with the template's own message when it refuses the conversation (raise_exception);
  /// Error{malformed} naming the line for an operation that fails, and for a limit that is reached.
  [[nodiscard]] MarkedText render(const ChatContext& context) const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

/// The spelling of a token as tokenizer_config.json has it under `key` ("bos_token"): a text, or an object
/// with `content`; nothing where there is none. Error{malformed} naming the file.
[[nodiscard]] std::optional<std::string> config_token_text(std::string_view tokenizer_config,
                                                           std::string_view key);

/// The parts of a release that decide how it writes conversations.
struct ChatFormatSource {
  TokenizerKind tokenizer_kind = TokenizerKind::sentencepiece;
  std::optional<std::string> chat_template = {};  ///< Jinja, as released
  std::string subject = "chat_template.jinja";    ///< what errors call the template
  std::string_view tokenizer_config = {};         ///< tokenizer_config.json: the spellings of BOS and EOS
};

struct ChatOptions {
  format::Json variables = format::Json::object();  ///< as in ChatContext
  bool add_generation_prompt = true;
  std::optional<std::int64_t> unix_time_s = {};  ///< the time now where it is not given
};

/// A conversation as a model reads it.
struct ChatPrompt {
  std::vector<TokenId> ids;
  bool opens_thinking = false;  ///< it ends within a block "<think>", which the answer goes on with
};

/// Turns a conversation into the token ids that an instruction-tuned model was trained on: with the release's
/// chat template, or, for Mistral's releases, which have none, as mistral-common does it
/// (tokens/tokenizers/instruct.py). Thread-safe after construction.
class ChatFormat {
 public:
  enum class Kind : std::uint8_t {
    chat_template,
    mistral_v1,   ///< Mixtral 8x7B: "[INST]" and "[/INST]" are text; the system text precedes the first user
                  ///< text
    mistral_v3,   ///< versions 2 and 3: both are control pieces; the system text precedes the last user text
    mistral_v7,   ///< versions 7 to 13: the system text stands in control pieces of its own
    mistral_v15,  ///< the same, and behind it the effort of reasoning that the conversation asks for
  };

  /// Without a template the tokenizer's control pieces, and a tekken.json's version, choose the format;
  /// Error{usage} when they are none of Mistral's. `tokenizer` must outlive the format. Error{malformed} for
  /// a template that is none.
  explicit ChatFormat(const Tokenizer& tokenizer, const ChatFormatSource& source = {});

  [[nodiscard]] Kind kind() const { return kind_; }

  /// The ids of a conversation, BOS included where the model has one; no other may be put before them. Error
  /// of ChatTemplate::render(). In Mistral's formats user and assistant take turns after an optional system
  /// message, the user first; another order, an empty answer and any variable are an Error{usage}, but for
  /// "reasoning_effort" of version 15.
  [[nodiscard]] ChatPrompt prompt(const format::Json& messages, const ChatOptions& options = {}) const;
  /// Takes plain messages. An empty system text is none.
  [[nodiscard]] ChatPrompt prompt(std::span<const Message> conversation,
                                  const ChatOptions& options = {}) const;
  /// The ids alone, with a generation prompt when the last message is not the assistant's.
  [[nodiscard]] std::vector<TokenId> encode(std::span<const Message> conversation) const;

  /// The control piece with which the template closes an answer, for releases whose end ids lack it. Nothing
  /// where the template does not tell: when a model writes control pieces of its own before its answer, as
  /// gpt-oss does for its channels, the piece behind the answer may end a part of it.
  [[nodiscard]] std::optional<TokenId> end_of_turn() const;
  /// Whether answers consist of messages in channels: see ChannelSplitter.
  [[nodiscard]] bool uses_channels() const;
  /// The control pieces that end an answer: end_of_turn(), or those of the channels.
  [[nodiscard]] std::vector<TokenId> ends_of_turn() const;

 private:
  [[nodiscard]] MarkedText render(const format::Json& messages, const ChatOptions& options) const;
  [[nodiscard]] std::vector<TokenId> encode_mistral(std::span<const Message> conversation,
                                                    const ChatOptions& options) const;
  void append_settings(const ChatOptions& options, std::vector<TokenId>& ids) const;
  void append_user(std::string_view content, std::vector<TokenId>& ids) const;
  void append_assistant(std::string_view content, std::vector<TokenId>& ids) const;
  [[nodiscard]] TokenId control(std::string_view piece) const;

  const Tokenizer& tokenizer_;
  std::optional<ChatTemplate> template_;
  std::optional<std::string> bos_token_;
  std::optional<std::string> eos_token_;
  Kind kind_ = Kind::mistral_v1;
};

/// Splits an answer, as it grows, into what the model thinks between "<think>" and "</think>" and what it
/// answers. Thinking begins where the prompt has opened it, or with "<think>" as the first text of the
/// answer. The marks and the line ends beside them belong to neither part. Where the marks are control
/// pieces, which have no text, the caller adds their Tokenizer::control_text().
class ThinkingSplitter {
 public:
  struct Part {
    std::string text;
    bool thinking = false;

    bool operator==(const Part&) const = default;
  };

  /// `opened`: ChatPrompt::opens_thinking.
  explicit ThinkingSplitter(bool opened = false) : state_(opened ? State::thinking : State::start) {}

  /// Adds text; returns the parts that are certain now, in order, none of them empty.
  [[nodiscard]] std::vector<Part> add(std::string_view text);
  /// Ends the answer; returns what was held back.
  [[nodiscard]] std::vector<Part> finish();
  /// True between the marks.
  [[nodiscard]] bool thinking() const { return state_ == State::thinking; }

 private:
  enum class State : std::uint8_t { start, thinking, answer };

  void advance(bool at_end, std::vector<Part>& parts);

  State state_;
  bool skips_line_ends_ = true;  // a mark was the last text
  std::string held_;             // what may be a part of a mark
};

/// The same for models that write their answer as messages of several channels, as gpt-oss does in the format
/// Harmony (github.com/openai/harmony):
///
///   <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...<|return|>
///
/// The text of the channel "final", and of a message that names no channel, is the answer; that of
/// "analysis", "commentary" and any other is thinking. Only control pieces are marks: text that spells one is
/// text.
class ChannelSplitter {
 public:
  using Part = ThinkingSplitter::Part;

  /// True for the texts of the control pieces that mark() takes.
  [[nodiscard]] static bool is_mark(std::string_view control_text);

  /// Adds text between two marks; returns what of it belongs to a message.
  [[nodiscard]] std::vector<Part> add(std::string_view text);
  void mark(std::string_view control_text);
  /// Ends the answer; returns text that no mark preceded.
  [[nodiscard]] std::vector<Part> finish();

 private:
  enum class State : std::uint8_t { header, body };

  State state_ = State::header;  // the prompt ends with the begin of one: "<|start|>assistant"
  bool marked_ = false;          // any mark was seen
  bool names_channel_ = false;
  std::string header_;
  bool thinking_ = false;
  std::array<bool, 2> had_text_ = {};  // [thinking] a message was shown
  bool begins_ = false;                // the message has no text yet
};

/// Splits the tokens of an answer, with the marks of the model's chat format.
class AnswerSplitter {
 public:
  using Part = ThinkingSplitter::Part;

  /// `opens_thinking`: ChatPrompt::opens_thinking. Format and tokenizer must outlive the splitter.
  AnswerSplitter(const ChatFormat& format, const Tokenizer& tokenizer, bool opens_thinking);

  /// Adds a token and the text that became complete with it.
  [[nodiscard]] std::vector<Part> add(TokenId id, std::string_view text);
  /// Adds text that was held back, and ends the answer.
  [[nodiscard]] std::vector<Part> finish(std::string_view rest);

 private:
  const Tokenizer& tokenizer_;
  std::variant<ThinkingSplitter, ChannelSplitter> splitter_;
};

}  // namespace sluice::text
