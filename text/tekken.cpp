// Reads a tekken.json, the tokenizer of Mistral's releases since 2024: byte strings by rank, as tiktoken has
// them. Of two neighbours the pair is merged whose bytes together have the lowest rank. The file lists no
// merges: here they are all the ways to cut a token into two others, and each has the token's rank.
//
// Special tokens have the first ids; those of the vocabulary follow. No text becomes a special token, as in
// mistral-common; in a trusted range its spelling does. Source: mistral-common 1.8,
// tokens/tokenizers/tekken.py.

#include "text/tekken.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "base/base64.h"
#include "base/error.h"
#include "text/bpe_tokenizer.h"
#include "text/in_quotes.h"

namespace sluice::text {
namespace {

using format::Json;
using format::place_of;

constexpr std::size_t kPatternShownBytesMax = 600;

// The longest token: a token of n bytes is cut in n - 1 ways. The released ones have at most 256 bytes.
constexpr std::size_t kTokenBytesMax = 512;

// Files of version 7 and before have no list of special tokens.
constexpr std::array<std::string_view, 20> kOldSpecialTokens = {"<unk>",
                                                                "<s>",
                                                                "</s>",
                                                                "[INST]",
                                                                "[/INST]",
                                                                "[AVAILABLE_TOOLS]",
                                                                "[/AVAILABLE_TOOLS]",
                                                                "[TOOL_RESULTS]",
                                                                "[/TOOL_RESULTS]",
                                                                "[TOOL_CALLS]",
                                                                "[IMG]",
                                                                "<pad>",
                                                                "[IMG_BREAK]",
                                                                "[IMG_END]",
                                                                "[PREFIX]",
                                                                "[MIDDLE]",
                                                                "[SUFFIX]",
                                                                "[SYSTEM_PROMPT]",
                                                                "[/SYSTEM_PROMPT]",
                                                                "[TOOL_CONTENT]"};
constexpr unsigned kOldVersionMax = 7;
// Since this version a conversation begins with settings of the model.
constexpr unsigned kSettingsVersion = 15;
constexpr std::size_t kEffortsMax = 16;

struct SpecialToken {
  std::string text;
  bool is_control = true;
};

class Reader {
 public:
  Reader(const TokenizerBundle& bundle, std::string_view subject)
      : subject_(subject), bundle_(bundle), file_(format::parse_json(base::as_text(bundle.model), subject)) {}

  BpeTokenizerParts read() {
    read_config(file_.at("config", subject_));
    read_special_tokens();
    read_vocabulary(place_of(subject_, "vocab"));
    make_merges();
    read_chat();
    parts_.bos = special_named("<s>");
    parts_.end_ids = joined_end_ids(bundle_.end_ids, special_named("</s>"), subject_);
    add_fine_tuned_tokens(parts_, bundle_.added, subject_);
    return std::move(parts_);
  }

 private:
  void read_config(const Json& config) {
    const std::string place = place_of(subject_, "config");
    format::require_known_keys(
        config,
        {"pattern", "num_vocab_tokens", "default_vocab_size", "default_num_special_tokens", "version"},
        place);
    const std::string& pattern = config.at("pattern", place).as_string(place_of(place, "pattern"));
    const SplitFinder finder = find_split(pattern);
    if (finder == nullptr)
      base::throw_malformed(place_of(place, "pattern"),
                            "the expression " +
                                in_quotes(spelled_in_one_line(pattern), kPatternShownBytesMax) +
                                " is none of those that are supported");
    parts_.pre_tokenizer.add_split(finder);
    const std::uint64_t size =
        config.at("default_vocab_size", place).as_uint(place_of(place, "default_vocab_size"));
    format::require_range(size, std::uint64_t{kTokenIdMax} + 1, "default_vocab_size", place);
    const std::uint64_t special =
        config.at("default_num_special_tokens", place).as_uint(place_of(place, "default_num_special_tokens"));
    format::require_range(special, size, "default_num_special_tokens", place);
    special_count_ = static_cast<std::size_t>(special);
    inner_size_ = static_cast<std::size_t>(size - special);
    read_version(config.at("version", place).as_string(place_of(place, "version")),
                 place_of(place, "version"));
  }

  // "v3", "v7", "v11", ..
  void read_version(const std::string& version, std::string_view place) {
    const auto result = std::from_chars(version.data() + 1, version.data() + version.size(), version_);
    if (!version.starts_with('v') || result.ec != std::errc() ||
        result.ptr != version.data() + version.size())
      base::throw_malformed(place, "expected a version such as 'v3', found " + in_quotes(version));
  }

  /// Files since version 15 say which efforts of reasoning the model knows, and which is meant where a
  /// conversation asks for none. What mistral-common's chat template of version 15 does without being told
  /// counts for a file that does not say it.
  void read_chat() {
    MistralChat& chat = parts_.mistral_chat.emplace();
    chat.version = static_cast<int>(std::min(version_, 1000U));
    if (version_ < kSettingsVersion) return;
    const Json* builder = file_.find("model_settings_builder");
    if (builder == nullptr || builder->is_null()) {
      chat.reasoning_efforts = {"none", "high"};
      chat.default_effort = "none";
      return;
    }
    const std::string place = place_of(subject_, "model_settings_builder");
    const Json* effort = (static_cast<void>(builder->as_object(place)), builder->find("reasoning_effort"));
    if (effort != nullptr && !effort->is_null())
      read_efforts(*effort, place_of(place, "reasoning_effort"), chat);
  }

  static void read_efforts(const Json& json, const std::string& place, MistralChat& chat) {
    const Json::Array& values = json.at("values", place).as_array(place_of(place, "values"));
    if (values.size() > kEffortsMax)
      base::throw_malformed(place_of(place, "values"), "has " + std::to_string(values.size()) +
                                                           " efforts, expected at most " +
                                                           std::to_string(kEffortsMax));
    for (const Json& value : values) {
      const std::string& name = value.as_string(place_of(place, "values"));
      if (name.empty() || name.size() > kAddedTokenBytesMax)
        base::throw_malformed(place_of(place, "values"),
                              "has a name of " + std::to_string(name.size()) + " bytes");
      chat.reasoning_efforts.push_back(name);
    }
    const Json* otherwise = json.find("default");
    if (otherwise == nullptr || otherwise->is_null()) return;
    chat.default_effort = otherwise->as_string(place_of(place, "default"));
    if (std::ranges::find(chat.reasoning_efforts, *chat.default_effort) == chat.reasoning_efforts.end())
      base::throw_malformed(place_of(place, "default"),
                            "is " + in_quotes(*chat.default_effort) + ", which is none of 'values'");
  }

  void read_special_tokens() {
    const std::string place = place_of(subject_, "special_tokens");
    const Json* list = file_.find("special_tokens");
    if (list == nullptr || list->is_null()) {
      if (version_ > kOldVersionMax)
        base::throw_malformed(place, "is missing, which versions above v7 must have");
      for (const std::string_view text : kOldSpecialTokens) specials_.push_back({std::string(text)});
    } else {
      specials_.resize(list->as_array(place).size());
      for (const Json& item : list->as_array(place)) read_special_token(item, place);
    }
    if (specials_.size() > special_count_)
      base::throw_malformed(place, "has " + std::to_string(specials_.size()) + " tokens, more than the " +
                                       std::to_string(special_count_) + " of default_num_special_tokens");
    for (std::size_t id = specials_.size(); id < special_count_; ++id)
      specials_.push_back({"<SPECIAL_" + std::to_string(id) + ">"});
    add_special_tokens(place);
  }

  void read_special_token(const Json& item, const std::string& place) {
    format::require_known_keys(item, {"rank", "token_str", "is_control"}, place);
    const std::uint64_t rank = item.at("rank", place).as_uint(place_of(place, "rank"));
    if (rank >= specials_.size())
      base::throw_malformed(place, "the rank " + std::to_string(rank) + " is not below the number of tokens");
    SpecialToken& token = specials_[static_cast<std::size_t>(rank)];
    if (!token.text.empty())
      base::throw_malformed(place, "the rank " + std::to_string(rank) + " occurs twice");
    token.text = item.at("token_str", place).as_string(place_of(place, "token_str"));
    token.is_control = item.at("is_control", place).as_bool(place_of(place, "is_control"));
    if (token.text.empty() || token.text.size() > kAddedTokenBytesMax)
      base::throw_malformed(place, "the token " + std::to_string(rank) + " has " +
                                       std::to_string(token.text.size()) + " bytes, expected 1 to " +
                                       std::to_string(kAddedTokenBytesMax));
  }

  void add_special_tokens(std::string_view place) {
    std::set<std::string_view> texts;
    for (std::size_t i = 0; i < specials_.size(); ++i) {
      const auto& [text, is_control] = specials_[i];
      if (!texts.insert(text).second)
        base::throw_malformed(place, "the token " + in_quotes(text) + " occurs twice");
      const auto id = static_cast<TokenId>(i);
      parts_.model.pieces.set(id, text);
      parts_.added.push_back({.id = id, .text = text, .needs_trust = true});
      if (is_control) parts_.controls.emplace(text, id);
    }
  }

  [[nodiscard]] TokenId special_named(std::string_view text) const {
    const auto found = std::ranges::find(specials_, text, &SpecialToken::text);
    if (found == specials_.end() || !found->is_control)
      base::throw_malformed(place_of(subject_, "special_tokens"), "has no control token " + in_quotes(text));
    return static_cast<TokenId>(found - specials_.begin());
  }

  void read_vocabulary(const std::string& place) {
    const Json::Array& vocabulary = file_.at("vocab", subject_).as_array(place);
    if (vocabulary.size() < inner_size_)
      base::throw_malformed(place, "has " + std::to_string(vocabulary.size()) + " tokens, fewer than the " +
                                       std::to_string(inner_size_) + " of the sizes in config");
    if (inner_size_ < 256) base::throw_malformed(place, "has no token for some bytes");
    // Later tokens of the file belong to no model.
    for (std::size_t rank = 0; rank < inner_size_; ++rank) {
      const Json& item = vocabulary[rank];
      const auto number = [&] { return "token " + std::to_string(rank); };
      if (item.at("rank", place).as_uint(place_of(place, "rank")) != rank)
        base::throw_malformed(place, number() + " has another rank");
      const auto bytes =
          base::parse_base64(item.at("token_bytes", place).as_string(place_of(place, "token_bytes")));
      if (!bytes || bytes->empty() || bytes->size() > kTokenBytesMax)
        base::throw_malformed(
            place, number() + " is not 1 to " + std::to_string(kTokenBytesMax) + " bytes in base64");
      if (rank < 256 && (bytes->size() != 1 || bytes->front() != static_cast<std::byte>(rank)))
        base::throw_malformed(place, number() + " is not the byte of its rank");
      const auto id = static_cast<TokenId>(special_count_ + rank);
      parts_.model.pieces.set(id, base::as_text(*bytes));
      if (!parts_.model.pieces.index(id))
        base::throw_malformed(place, number() + " has the bytes of another one");
      if (rank < 256) parts_.model.byte_ids[rank] = id;
    }
  }

  void make_merges() {
    parts_.model.whole_pieces_first = true;
    struct Pair {
      TokenId left;
      TokenId right;
      Merge merge;
    };
    std::vector<Pair> pairs;
    const PieceTable& pieces = parts_.model.pieces;
    for (std::size_t rank = 256; rank < inner_size_; ++rank) {
      const auto id = static_cast<TokenId>(special_count_ + rank);
      const std::string_view bytes = pieces.bytes(id);
      for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
        const auto left = pieces.find(bytes.substr(0, cut));
        if (!left) continue;
        if (const auto right = pieces.find(bytes.substr(cut)))
          pairs.push_back({*left, *right, {static_cast<std::uint32_t>(rank), id}});
      }
    }
    parts_.model.merges = MergeTable(pairs.size());
    for (const Pair& pair : pairs) parts_.model.merges.set(pair.left, pair.right, pair.merge);
  }

  std::string_view subject_;
  const TokenizerBundle& bundle_;
  Json file_;
  std::size_t special_count_ = 0;
  std::size_t inner_size_ = 0;  // tokens of the vocabulary that count
  unsigned version_ = 0;
  std::vector<SpecialToken> specials_;  // by id
  BpeTokenizerParts parts_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_tekken_tokenizer(const TokenizerBundle& bundle, std::string_view subject) {
  return make_bpe_tokenizer(Reader(bundle, subject).read());
}

}  // namespace sluice::text
