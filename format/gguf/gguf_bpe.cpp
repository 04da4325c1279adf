// A byte-level BPE tokenizer out of the keys of a GGUF file (tokenizer.ggml.model "gpt2"), as the text of a
// tokenizer.json that gives the same ids. The keys have tokens, types and merges; how text is split before
// the merges is not in the file: "tokenizer.ggml.pre" is a name, which llama.cpp gives to the splits that it
// knows (src/llama-vocab.cpp). kSplits has what the released tokenizer.json of each has, its normalizer
// included, which llama.cpp leaves out.
//
// Control tokens become special ones, and user-defined tokens become added ones that are not special; unused
// ones are padding and left out. Everything runs on the caller's thread.

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <unordered_set>

#include "base/text.h"
#include "format/gguf/gguf.h"
#include "format/gguf/gguf_keys.h"
#include "format/gguf/gguf_splits.h"
#include "format/sentencepiece_model.h"

namespace sluice::format {
namespace {

// Patterns of tokenizer.json, by which text/ finds its own splits: they must not differ by a byte.
constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kO200k =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Splits that are made one after the other.
constexpr auto kDeepseekV3 = std::to_array<std::string_view>({
    R"(\p{N}{1,3})",
    "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+",
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
});
constexpr std::string_view kNonLatin = "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+";
constexpr auto kDeepseekV2 = std::to_array<std::string_view>({
    R"([\r\n])",
    kSpelledLettersExpression,
    kSpelledSignsExpression,
    R"(\s+$)",
    kNonLatin,
});
constexpr auto kDeepseekCoder =
    std::to_array<std::string_view>({R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kNonLatin});

struct Split {
  std::string_view name;  ///< of tokenizer.ggml.pre
  const char* pattern;    ///< nullptr: `patterns`, or the one that ByteLevel has itself (GPT-2's)
  std::span<const std::string_view> patterns = {};  ///< one after the other
  bool digits = false;       ///< each digit stands alone, before `pattern`, and behind `patterns`
  bool nfc = false;          ///< text is normalized first
  bool whole_first = false;  ///< a word that is a token is not taken apart ("ignore_merges")
  bool bos = false;          ///< stands before a text when no key says so
};

constexpr auto kSplits = std::to_array<Split>({
    {.name = "qwen2", .pattern = kQwen2, .nfc = true},
    {.name = "qwen35", .pattern = kQwen35, .nfc = true},
    {.name = "llama-bpe", .pattern = kLlama3, .whole_first = true, .bos = true},
    {.name = "llama3", .pattern = kLlama3, .whole_first = true, .bos = true},
    {.name = "lfm2", .pattern = kLlama3, .whole_first = true, .bos = true},
    {.name = "glm4", .pattern = kLlama3, .whole_first = true},
    {.name = "chatglm-bpe", .pattern = kLlama3, .whole_first = true},
    {.name = "gpt-2", .pattern = nullptr},
    {.name = "olmo", .pattern = nullptr, .nfc = true},
    {.name = "refact", .pattern = nullptr, .digits = true},
    {.name = "starcoder", .pattern = nullptr, .digits = true},
    {.name = "gpt-4o", .pattern = kO200k, .whole_first = true},
    {.name = "minimax-m2", .pattern = kO200k, .whole_first = true},
    {.name = "deepseek-llm", .pattern = nullptr, .patterns = kDeepseekV2, .digits = true, .bos = true},
    {.name = "deepseek-coder", .pattern = nullptr, .patterns = kDeepseekCoder, .digits = true, .bos = true},
    {.name = "deepseek-v3", .pattern = nullptr, .patterns = kDeepseekV3, .bos = true},
});

constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kTypes = "tokenizer.ggml.token_type";

const Split& split_of(const GgufKeys& keys) {
  constexpr std::string_view kKey = "tokenizer.ggml.pre";
  const std::string name = keys.text(kKey);
  if (const auto found = std::ranges::find(kSplits, name, &Split::name); found != kSplits.end())
    return *found;
  std::string supported;
  for (const Split& split : kSplits) supported += (supported.empty() ? "" : ", ") + std::string(split.name);
  keys.refuse(kKey, "is '" + base::to_printable(name.substr(0, 100)) + "', supported are " + supported);
}

Json isolated(std::string_view pattern) {
  return Json::object({{"type", "Split"},
                       {"pattern", Json::object({{"Regex", pattern}})},
                       {"behavior", "Isolated"},
                       {"invert", false}});
}

Json pre_tokenizer_of(const Split& split) {
  Json parts = Json::array();
  for (const std::string_view pattern : split.patterns) parts.push_back(isolated(pattern));
  if (split.digits) parts.push_back(Json::object({{"type", "Digits"}, {"individual_digits", true}}));
  if (split.pattern != nullptr) parts.push_back(isolated(split.pattern));
  parts.push_back(Json::object({{"type", "ByteLevel"},
                                {"add_prefix_space", false},
                                {"trim_offsets", true},
                                {"use_regex", split.pattern == nullptr && split.patterns.empty()}}));
  return Json::object({{"type", "Sequence"}, {"pretokenizers", std::move(parts)}});
}

/// The texts of all tokens, each of UTF-8 and unlike the others.
const std::vector<std::string>& checked_tokens(const GgufKeys& keys) {
  const auto& tokens = keys.list<std::string>(kTokens);
  const auto& types = keys.list<std::int64_t>(kTypes);
  if (types.size() != tokens.size()) {
    keys.refuse(kTokens, "has " + std::to_string(tokens.size()) + " tokens and " +
                             std::to_string(types.size()) + " types");
  }
  std::unordered_set<std::string_view> seen;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].empty() || !base::is_utf8(tokens[i]))
      keys.refuse(kTokens, "token " + std::to_string(i) + " is no text of UTF-8");
    if (!seen.insert(tokens[i]).second)
      keys.refuse(kTokens, "token " + std::to_string(i) + " has the text of another one: '" +
                               base::to_printable(tokens[i].substr(0, 100)) + "'");
  }
  return tokens;
}

PieceType type_of(const GgufKeys& keys, std::size_t token) {
  const std::int64_t number = keys.list<std::int64_t>(kTypes)[token];
  if (number < 1 || number > 6) {
    keys.refuse(kTypes, "token " + std::to_string(token) + " has the type " + std::to_string(number) +
                            ", expected 1 to 6");
  }
  return static_cast<PieceType>(number);
}

Json added_token(std::size_t id, const std::string& text, bool special) {
  return Json::object({{"id", id},
                       {"content", text},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", special}});
}

/// Merges whose parts and result are tokens: llama.cpp finds a result by its text, too, and takes it apart
/// again where it is none.
Json merges_of(const GgufKeys& keys, const std::unordered_set<std::string_view>& vocabulary) {
  Json::Array merges;
  for (const std::string& merge : keys.list<std::string>("tokenizer.ggml.merges")) {
    const std::size_t space = merge.find(' ', 1);
    if (space == std::string::npos)
      keys.refuse("tokenizer.ggml.merges", "'" + base::to_printable(merge.substr(0, 100)) + "' is no pair");
    const std::string left = merge.substr(0, space);
    const std::string right = merge.substr(space + 1);
    if (vocabulary.contains(left) && vocabulary.contains(right) && vocabulary.contains(left + right))
      merges.emplace_back(merge);
  }
  return Json(std::move(merges));
}

/// The text of the token that a key names; nothing without the key.
std::optional<std::string> named_token(const GgufKeys& keys, std::string_view key) {
  const auto id = keys.find_uint(key);
  if (!id) return std::nullopt;
  const auto& tokens = keys.list<std::string>(kTokens);
  if (*id >= tokens.size())
    keys.refuse(key,
                "is " + std::to_string(*id) + ", but there are " + std::to_string(tokens.size()) + " tokens");
  return tokens[static_cast<std::size_t>(*id)];
}

}  // namespace

TokenizerKind gguf_tokenizer_kind(const CheckpointIndex& checkpoint) {
  constexpr std::string_view kKey = "tokenizer.ggml.model";
  const GgufKeys keys(checkpoint);
  const std::string name = keys.text(kKey);
  if (name == "llama") return TokenizerKind::sentencepiece;
  if (name == "gpt2") return TokenizerKind::hugging_face;
  keys.refuse(kKey, "is '" + base::to_printable(name.substr(0, 100)) +
                        "', supported are 'llama' (SentencePiece BPE) and 'gpt2' (byte-level BPE)");
}

std::string gguf_tokenizer_json(const CheckpointIndex& checkpoint) {
  const GgufKeys keys(checkpoint);
  const Split& split = split_of(keys);
  const auto& tokens = checked_tokens(keys);
  Json::Array added;
  Json::Object vocabulary;
  std::unordered_set<std::string_view> texts;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const PieceType type = type_of(keys, id);
    if (type == PieceType::unused) continue;
    if (type == PieceType::normal || type == PieceType::byte) {
      vocabulary.emplace_back(tokens[id], id);
      texts.insert(tokens[id]);
    } else {
      added.push_back(added_token(id, tokens[id], type != PieceType::user_defined));
    }
  }
  const Json byte_level = Json::object(
      {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}});
  Json model = Json::object({{"type", "BPE"},
                             {"dropout", nullptr},
                             {"unk_token", nullptr},
                             {"continuing_subword_prefix", nullptr},
                             {"end_of_word_suffix", nullptr},
                             {"fuse_unk", false},
                             {"byte_fallback", false},
                             {"ignore_merges", split.whole_first}});
  model.set("vocab", Json(std::move(vocabulary)));
  model.set("merges", merges_of(keys, texts));
  return Json::object({{"version", "1.0"},
                       {"truncation", nullptr},
                       {"padding", nullptr},
                       {"added_tokens", Json(std::move(added))},
                       {"normalizer", split.nfc ? Json::object({{"type", "NFC"}}) : Json(nullptr)},
                       {"pre_tokenizer", pre_tokenizer_of(split)},
                       {"post_processor", nullptr},
                       {"decoder", byte_level},
                       {"model", std::move(model)}})
      .dump();
}

std::string gguf_tokenizer_config(const CheckpointIndex& checkpoint) {
  const GgufKeys keys(checkpoint);
  const auto bos = named_token(keys, "tokenizer.ggml.bos_token_id");
  const auto eos = named_token(keys, "tokenizer.ggml.eos_token_id");
  Json config = Json::object();
  config.set("add_bos_token", bos && keys.truth("tokenizer.ggml.add_bos_token", split_of(keys).bos));
  if (bos) config.set("bos_token", *bos);
  if (eos) config.set("eos_token", *eos);
  return config.dump();
}

}  // namespace sluice::format
