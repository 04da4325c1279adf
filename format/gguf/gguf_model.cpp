// What the keys of a GGUF file say about the model: its parameters (keys "llama.*") and its tokenizer (keys
// "tokenizer.ggml.*", which are made into a SentencePiece model). Key names are those of llama.cpp
// (src/llama-arch.cpp); Mixtral and Mistral have the architecture "llama" there.
//
// As in params.json, a key under "llama." that is not known is refused, because it may change the result.
// Keys in other name spaces ("general.*") describe the file and are ignored. Everything runs on the caller's
// thread.

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "base/text.h"
#include "format/gguf/gguf.h"
#include "format/hub/chat_files.h"
#include "format/sentencepiece_model.h"

namespace sluice::format {
namespace {

constexpr std::string_view kPrefix = "llama.";

// Keys of "llama" that say nothing about the result.
constexpr std::array<std::string_view, 2> kHarmless{"context_length", "rope.scaling.original_context_length"};

/// Typed access to the pairs, with errors that name the key.
class Pairs final {
 public:
  explicit Pairs(const CheckpointIndex& checkpoint)
      : pairs_(checkpoint.gguf_pairs), subject_(checkpoint.files.front().string()) {}

  [[noreturn]] void refuse(std::string_view key, const std::string& cause) const {
    base::throw_malformed(subject_, "key '" + std::string(key) + "': " + cause);
  }

  [[nodiscard]] const GgufValue* find(std::string_view key) const {
    const auto found = pairs_.find(key);
    return found == pairs_.end() ? nullptr : &found->second;
  }

  /// Writers choose any integer type for a key, so signed numbers are accepted as well.
  [[nodiscard]] std::optional<std::uint64_t> find_uint(std::string_view key) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (const auto* number = std::get_if<std::uint64_t>(value)) return *number;
    if (const auto* number = std::get_if<std::int64_t>(value); number != nullptr && *number >= 0)
      return static_cast<std::uint64_t>(*number);
    refuse(key, "expected a whole number that is not negative");
  }

  [[nodiscard]] std::uint64_t uint(std::string_view key) const {
    const auto value = find_uint(key);
    if (!value) refuse(key, "is missing");
    return *value;
  }

  /// The decimal number that an f32 stands for: 1e-05, not 9.99999974737875e-06. GGUF stores f32, params.json
  /// decimals; without this step the same model would have two descriptions.
  [[nodiscard]] std::optional<double> find_float(std::string_view key) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return std::nullopt;
    const auto* number = std::get_if<double>(value);
    if (number == nullptr || !std::isfinite(*number)) refuse(key, "expected a finite number");
    std::array<char, 32> text{};
    const auto end = std::to_chars(text.data(), text.data() + text.size(), static_cast<float>(*number)).ptr;
    double shortest = 0;
    std::from_chars(text.data(), end, shortest);
    return shortest;
  }

  [[nodiscard]] std::string text(std::string_view key) const {
    const GgufValue* value = find(key);
    if (value == nullptr) refuse(key, "is missing");
    const auto* text = std::get_if<std::string>(value);
    if (text == nullptr) refuse(key, "expected a text");
    return *text;
  }

  [[nodiscard]] bool truth(std::string_view key, bool otherwise) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return otherwise;
    const auto* truth = std::get_if<bool>(value);
    if (truth == nullptr) refuse(key, "expected true or false");
    return *truth;
  }

  template <typename T>
  [[nodiscard]] const std::vector<T>& list(std::string_view key) const {
    const GgufValue* value = find(key);
    if (value == nullptr) refuse(key, "is missing");
    if (const auto* passed = std::get_if<GgufLongArray>(value)) {
      refuse(key, "has " + std::to_string(passed->count) + " elements, and Sluice reads at most " +
                      std::to_string(kGgufElementsMax));
    }
    const auto* list = std::get_if<std::vector<T>>(value);
    if (list == nullptr) refuse(key, "is not of the expected type");
    return *list;
  }

  [[nodiscard]] const GgufPairs& all() const { return pairs_; }
  [[nodiscard]] const std::string& subject() const { return subject_; }

 private:
  const GgufPairs& pairs_;
  std::string subject_;
};

/// RoPE over a part of a head and keys of another width than values are mechanisms that MistralParams has no
/// field for.
void require_equal(const Pairs& pairs, const std::string& key, std::uint64_t expected) {
  const auto value = pairs.find_uint(key);
  if (value && *value != expected) {
    pairs.refuse(key, "is " + std::to_string(*value) + ", but the heads are " + std::to_string(expected) +
                          " wide: that is not supported");
  }
}

void refuse_unknown(const Pairs& pairs, const std::vector<std::string>& known) {
  for (const auto& [key, value] : pairs.all()) {
    if (!key.starts_with(kPrefix) || std::ranges::find(known, key) != known.end()) continue;
    if (std::ranges::find(kHarmless, std::string_view(key).substr(kPrefix.size())) != kHarmless.end())
      continue;
    const auto* text = std::get_if<std::string>(&value);
    if (key == "llama.rope.scaling.type" && text != nullptr && *text == "none") continue;
    pairs.refuse(key, "is not known, and may change the result");
  }
}

/// Older files do not have the size of the vocabulary; there it is the number of tokens.
std::uint64_t rows_of_vocabulary(const Pairs& pairs) {
  if (const auto size = pairs.find_uint("llama.vocab_size")) return *size;
  return pairs.list<std::string>("tokenizer.ggml.tokens").size();
}

std::int32_t token_id(const Pairs& pairs, const std::string& key, std::int32_t otherwise,
                      std::size_t pieces) {
  const auto id = pairs.find_uint(key);
  if (!id) return otherwise;
  if (*id >= pieces)
    pairs.refuse(key, "is " + std::to_string(*id) + ", but there are " + std::to_string(pieces) + " tokens");
  return static_cast<std::int32_t>(*id);
}

std::vector<SentencePiece> read_pieces(const Pairs& pairs) {
  const auto& texts = pairs.list<std::string>("tokenizer.ggml.tokens");
  const auto& scores = pairs.list<double>("tokenizer.ggml.scores");
  const auto& types = pairs.list<std::int64_t>("tokenizer.ggml.token_type");
  if (scores.size() != texts.size() || types.size() != texts.size()) {
    pairs.refuse("tokenizer.ggml.tokens", "has " + std::to_string(texts.size()) + " tokens, " +
                                              std::to_string(scores.size()) + " scores and " +
                                              std::to_string(types.size()) + " types");
  }
  std::vector<SentencePiece> pieces;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    // The numbers are those of SentencePiece's own types (PieceType).
    if (types[i] < 1 || types[i] > 6) {
      pairs.refuse("tokenizer.ggml.token_type", "token " + std::to_string(i) + " has the type " +
                                                    std::to_string(types[i]) + ", expected 1 to 6");
    }
    pieces.push_back({texts[i], static_cast<float>(scores[i]), static_cast<PieceType>(types[i])});
  }
  return pieces;
}

/// Byte and unknown pieces stay what they are: a text needs them.
void mark_as_control(std::int32_t id, std::vector<SentencePiece>& pieces) {
  if (id < 0) return;
  PieceType& type = pieces[static_cast<std::size_t>(id)].type;
  if (type == PieceType::user_defined || type == PieceType::normal) type = PieceType::control;
}

/// "<|im_start|>" and its like, which templates write and users must not.
bool is_chat_mark(std::string_view piece) {
  return piece.size() > 4 && piece.starts_with("<|") && piece.ends_with("|>");
}

}  // namespace

void require_supported_architecture(const CheckpointIndex& checkpoint) {
  const Pairs pairs(checkpoint);
  if (pairs.find("general.architecture") == nullptr) return;
  if (const std::string name = pairs.text("general.architecture"); name != "llama")
    pairs.refuse("general.architecture", "is '" + base::to_printable(name) + "', supported is 'llama'");
}

MistralParams gguf_params(const CheckpointIndex& checkpoint) {
  const Pairs pairs(checkpoint);
  static_cast<void>(pairs.text("general.architecture"));
  require_supported_architecture(checkpoint);
  MistralParams params;
  std::vector<std::string> known{"llama.vocab_size"};
  // Every key that is read is noted on the way, so that the list of known keys cannot fall behind.
  const auto key = [&](std::string_view rest) {
    return known.emplace_back(std::string(kPrefix) + std::string(rest));
  };
  params.dim = pairs.uint(key("embedding_length"));
  params.n_layers = pairs.uint(key("block_count"));
  params.hidden_dim = pairs.uint(key("feed_forward_length"));
  params.n_heads = pairs.uint(key("attention.head_count"));
  params.n_kv_heads = pairs.find_uint(key("attention.head_count_kv")).value_or(params.n_heads);
  const std::string rope = key("rope.dimension_count");
  const std::string key_length = key("attention.key_length");
  const std::string value_length = key("attention.value_length");
  // The width of a head: the width of a key if it is given, then the rotated part, then width / heads.
  const std::uint64_t divided = params.n_heads == 0 ? 0 : params.dim / params.n_heads;
  params.head_dim = pairs.find_uint(key_length).value_or(pairs.find_uint(rope).value_or(divided));
  for (const std::string& width : {rope, key_length, value_length})
    require_equal(pairs, width, params.head_dim);
  params.vocab_size = rows_of_vocabulary(pairs);
  params.norm_eps = pairs.find_float(key("attention.layer_norm_rms_epsilon")).value_or(0);
  params.rope_theta = pairs.find_float(key("rope.freq_base")).value_or(1e4);  // llama.cpp's own default
  params.sliding_window = pairs.find_uint(key("attention.sliding_window"));
  const auto experts = pairs.find_uint(key("expert_count"));
  const std::string used = key("expert_used_count");
  if (experts && *experts > 0) {
    params.num_experts = *experts;
    params.num_experts_per_tok = pairs.uint(used);
  }
  refuse_unknown(pairs, known);
  validate(params, pairs.subject());
  return params;
}

TokenFacts gguf_token_facts(const CheckpointIndex& checkpoint) {
  const Pairs pairs(checkpoint);
  const std::size_t count = pairs.list<std::string>("tokenizer.ggml.tokens").size();
  const std::int32_t eos = token_id(pairs, "tokenizer.ggml.eos_token_id", 2, count);
  TokenFacts facts;
  // The end of a turn, where it is not the end of a text.
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    const std::int32_t id = token_id(pairs, key, eos, count);
    if (id != eos) facts.end_ids.push_back(id);
  }
  return facts;
}

std::string gguf_chat_template(const CheckpointIndex& checkpoint) {
  constexpr std::string_view kKey = "tokenizer.chat_template";
  const Pairs pairs(checkpoint);
  if (pairs.find(kKey) == nullptr) return {};
  std::string text = pairs.text(kKey);
  require_chat_template(text, place_of(pairs.subject(), kKey));
  return text;
}

std::vector<std::byte> gguf_tokenizer(const CheckpointIndex& checkpoint) {
  const Pairs pairs(checkpoint);
  if (const std::string name = pairs.text("tokenizer.ggml.model"); name != "llama") {
    pairs.refuse("tokenizer.ggml.model",
                 "is '" + base::to_printable(name) + "', supported is 'llama' (SentencePiece BPE)");
  }
  SentencePieceModel model;
  model.pieces = read_pieces(pairs);
  // llama.cpp's model "llama" is SentencePiece's BPE with byte fallback; its keys do not repeat that.
  model.algorithm = SentencePieceModel::Algorithm::bpe;
  model.byte_fallback =
      std::ranges::find(model.pieces, PieceType::byte, &SentencePiece::type) != model.pieces.end();
  const std::size_t count = model.pieces.size();
  model.unk_id = token_id(pairs, "tokenizer.ggml.unknown_token_id", 0, count);
  model.bos_id = token_id(pairs, "tokenizer.ggml.bos_token_id", 1, count);
  model.eos_id = token_id(pairs, "tokenizer.ggml.eos_token_id", 2, count);
  model.pad_id = token_id(pairs, "tokenizer.ggml.padding_token_id", -1, count);
  // convert.py of 2023 wrote the added tokens of fine-tunes, <|im_end|> among them, as user-defined or normal
  // pieces. As control pieces they end a text, are not shown, and are never made of a user's text.
  for (const std::int32_t id : {model.bos_id, model.eos_id}) mark_as_control(id, model.pieces);
  for (SentencePiece& piece : model.pieces)
    if (piece.type == PieceType::user_defined && is_chat_mark(piece.text)) piece.type = PieceType::control;
  model.add_dummy_prefix = pairs.truth("tokenizer.ggml.add_space_prefix", true);
  model.remove_extra_whitespaces = pairs.truth("tokenizer.ggml.remove_extra_whitespaces", false);
  auto bytes = encode_sentencepiece(model);
  static_cast<void>(parse_sentencepiece(bytes, pairs.subject() + ": tokenizer"));  // its limits hold here too
  return bytes;
}

}  // namespace sluice::format
