#pragma once
// A released model, whatever layout it came in: its parameters, its tokenizer, and where each of the model's
// tensors lies in the files. From here on the layout makes no difference.
//
//   files and their tensors (checkpoint_index.h)  +  params.json or config.json (hub/family_config.h)
//       -> the model's tensors under their native names (model_tensors.h), each a view (tensor_source.h)
//
// The layouts, and how they are told apart: docs/checkpoints.md.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "format/checkpoint_index.h"
#include "format/hub/chat_files.h"
#include "format/hub/skipped_tensors.h"
#include "format/hub/token_facts.h"
#include "format/hub/tokenizer_file.h"
#include "format/model_description.h"
#include "format/model_tensors.h"
#include "format/tensor_source.h"

namespace sluice::format {

struct ReleasedTensor {
  ModelTensor target;
  TensorView view;
};

struct ReleasedModel {
  ModelDescription description;
  std::string params_text;  ///< params.json or config.json as released; made of a GGUF file's keys
  TokenizerKind tokenizer_kind = TokenizerKind::sentencepiece;
  std::vector<std::byte> tokenizer;       ///< the file of that kind as released
  std::string tokenizer_source;           ///< its file, or the GGUF file in which it lies, for messages
  TokenFacts tokens;                      ///< what other files say of the tokens
  ChatFiles chat;                         ///< what the release says of conversations
  std::vector<std::string> skipped_keys;  ///< of the parameters: not known, and without effect on the result
  std::vector<SkippedTensors> skipped_tensors;  ///< of the files: they take no part in the computation
  CheckpointKind kind = CheckpointKind::pth;
  std::string layout;  ///< of the names: "native", "stacked", "hugging-face", "fused", "gguf", "grok-1"
  std::vector<std::filesystem::path> files;
  /// The number of tensors of each type of a GGUF file, by ggml's names, when some of them are quantized: the
  /// weights have been rounded before. Otherwise empty.
  std::map<std::string, std::uint64_t> quantized_types;
  std::vector<ReleasedTensor> tensors;  ///< all that model_tensors() asks for, in its order

  /// Bytes of all tensors, as they are read.
  [[nodiscard]] std::uint64_t value_bytes() const;
};

/// `path` is a release folder or a checkpoint file in one. Error{malformed} for what is damaged, hostile,
/// incomplete, contradictory or not supported, naming file, tensor and cause.
[[nodiscard]] ReleasedModel open_released_model(const std::filesystem::path& path);

}  // namespace sluice::format
