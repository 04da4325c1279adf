// The tokenizer of a GGUF file (keys "tokenizer.ggml.*"): pieces of a SentencePiece model, which are made
// into a tokenizer.model that gives the same ids. Key names are those of llama.cpp (src/llama-arch.cpp).
// Everything runs on the caller's thread.

#include <algorithm>

#include "base/text.h"
#include "format/gguf/gguf.h"
#include "format/gguf/gguf_keys.h"
#include "format/hub/chat_files.h"
#include "format/sentencepiece_model.h"

namespace sluice::format {
namespace {

std::int32_t token_id(const GgufKeys& keys, const std::string& key, std::int32_t otherwise,
                      std::size_t pieces) {
  const auto id = keys.find_uint(key);
  if (!id) return otherwise;
  if (*id >= pieces)
    keys.refuse(key, "is " + std::to_string(*id) + ", but there are " + std::to_string(pieces) + " tokens");
  return static_cast<std::int32_t>(*id);
}

std::vector<SentencePiece> read_pieces(const GgufKeys& keys) {
  const auto& texts = keys.list<std::string>("tokenizer.ggml.tokens");
  const auto& scores = keys.list<double>("tokenizer.ggml.scores");
  const auto& types = keys.list<std::int64_t>("tokenizer.ggml.token_type");
  if (scores.size() != texts.size() || types.size() != texts.size()) {
    keys.refuse("tokenizer.ggml.tokens", "has " + std::to_string(texts.size()) + " tokens, " +
                                             std::to_string(scores.size()) + " scores and " +
                                             std::to_string(types.size()) + " types");
  }
  std::vector<SentencePiece> pieces;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    // The numbers are those of SentencePiece's own types (PieceType).
    if (types[i] < 1 || types[i] > 6) {
      keys.refuse("tokenizer.ggml.token_type", "token " + std::to_string(i) + " has the type " +
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

TokenFacts gguf_token_facts(const CheckpointIndex& checkpoint) {
  const GgufKeys keys(checkpoint);
  const std::size_t count = keys.list<std::string>("tokenizer.ggml.tokens").size();
  // SentencePiece's usual id; byte-level tokenizers have none.
  const bool sentencepiece = gguf_tokenizer_kind(checkpoint) == TokenizerKind::sentencepiece;
  const std::int32_t eos = token_id(keys, "tokenizer.ggml.eos_token_id", sentencepiece ? 2 : -1, count);
  TokenFacts facts;
  // The end of a turn, where it is not the end of a text.
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    const std::int32_t id = token_id(keys, key, eos, count);
    if (id != eos) facts.end_ids.push_back(id);
  }
  return facts;
}

std::string gguf_chat_template(const CheckpointIndex& checkpoint) {
  constexpr std::string_view kKey = "tokenizer.chat_template";
  const GgufKeys keys(checkpoint);
  if (keys.find(kKey) == nullptr) return {};
  std::string text = keys.text(kKey);
  require_chat_template(text, place_of(keys.subject(), kKey));
  return text;
}

std::vector<std::byte> gguf_tokenizer(const CheckpointIndex& checkpoint) {
  const GgufKeys keys(checkpoint);
  if (const std::string name = keys.text("tokenizer.ggml.model"); name != "llama") {
    keys.refuse("tokenizer.ggml.model",
                "is '" + base::to_printable(name) + "', supported is 'llama' (SentencePiece BPE)");
  }
  SentencePieceModel model;
  model.pieces = read_pieces(keys);
  // llama.cpp's model "llama" is SentencePiece's BPE with byte fallback; its keys do not repeat that.
  model.algorithm = SentencePieceModel::Algorithm::bpe;
  model.byte_fallback =
      std::ranges::find(model.pieces, PieceType::byte, &SentencePiece::type) != model.pieces.end();
  const std::size_t count = model.pieces.size();
  model.unk_id = token_id(keys, "tokenizer.ggml.unknown_token_id", 0, count);
  model.bos_id = token_id(keys, "tokenizer.ggml.bos_token_id", 1, count);
  model.eos_id = token_id(keys, "tokenizer.ggml.eos_token_id", 2, count);
  model.pad_id = token_id(keys, "tokenizer.ggml.padding_token_id", -1, count);
  // convert.py of 2023 wrote the added tokens of fine-tunes, <|im_end|> among them, as user-defined or normal
  // pieces. As control pieces they end a text, are not shown, and are never made of a user's text.
  for (const std::int32_t id : {model.bos_id, model.eos_id}) mark_as_control(id, model.pieces);
  for (SentencePiece& piece : model.pieces)
    if (piece.type == PieceType::user_defined && is_chat_mark(piece.text)) piece.type = PieceType::control;
  model.add_dummy_prefix = keys.truth("tokenizer.ggml.add_space_prefix", true);
  model.remove_extra_whitespaces = keys.truth("tokenizer.ggml.remove_extra_whitespaces", false);
  auto bytes = encode_sentencepiece(model);
  static_cast<void>(parse_sentencepiece(bytes, keys.subject() + ": tokenizer"));  // its limits hold here too
  return bytes;
}

}  // namespace sluice::format
