#pragma once
// Reads the head of GGUF files (gguf_format.h), versions 2 and 3: the pairs, and where the tensors lie.
// Nothing in the file is trusted: every count and length is checked against the rest of the file before it is
// used.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "format/checkpoint_index.h"
#include "format/hub/family_config.h"
#include "format/hub/token_facts.h"
#include "format/hub/tokenizer_file.h"
#include "format/mistral_params.h"

namespace sluice::format {

/// The result has its `gguf_pairs`. Error{malformed} names file, place, expected and found:
/// docs/checkpoints.md, "GGUF".
[[nodiscard]] CheckpointIndex open_gguf(const std::filesystem::path& path);

struct DamagedGguf {
  CheckpointIndex checkpoint;
  std::uint64_t data_offset_bytes = 0;  ///< where the data of the first tensor begins
};
/// Reads the head of a file that may be cut in its data, or have something behind its tensors: for naming
/// what is damaged, never for loading.
[[nodiscard]] DamagedGguf read_damaged_gguf(const std::filesystem::path& path);

/// Error{malformed} naming the architecture of the file and the supported ones. A file without one passes.
void require_supported_architecture(const CheckpointIndex& checkpoint);

/// The model of a file of any supported architecture. Error{malformed} naming file and key for what is
/// missing, contradictory or out of bounds, and for an unknown key of that architecture, which may change the
/// result.
[[nodiscard]] ModelConfig gguf_config(const CheckpointIndex& checkpoint);

/// Whether the model's authors have released it in this type, so that a file of it is no rounded copy: MXFP4
/// for gpt-oss.
[[nodiscard]] bool is_released_type(const CheckpointIndex& checkpoint, DType dtype);

/// The hyperparameters of architecture "llama". An unknown key of that architecture may change the result and
/// is refused by name.
[[nodiscard]] MistralParams gguf_params(const CheckpointIndex& checkpoint);

/// The ids that end a turn in addition to the tokenizer's EOS.
[[nodiscard]] TokenFacts gguf_token_facts(const CheckpointIndex& checkpoint);

/// Returns the kind of tokenizer file that holds the same as the keys: "llama" is SentencePiece, "gpt2"
/// byte-level BPE. Error{malformed} for any other.
[[nodiscard]] TokenizerKind gguf_tokenizer_kind(const CheckpointIndex& checkpoint);

/// A byte-level BPE tokenizer as the text of a tokenizer.json that gives the same ids, and of a
/// tokenizer_config.json that names BOS and EOS. Error{malformed} naming the key for a split that is not
/// known, and for tokens, types and merges that contradict each other.
[[nodiscard]] std::string gguf_tokenizer_json(const CheckpointIndex& checkpoint);
[[nodiscard]] std::string gguf_tokenizer_config(const CheckpointIndex& checkpoint);

/// The file's tokenizer as a tokenizer.model that gives the same ids. Error{malformed} for any kind but
/// "llama".
[[nodiscard]] std::vector<std::byte> gguf_tokenizer(const CheckpointIndex& checkpoint);

/// The key "tokenizer.chat_template"; empty without it.
[[nodiscard]] std::string gguf_chat_template(const CheckpointIndex& checkpoint);

}  // namespace sluice::format
