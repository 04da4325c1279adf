#pragma once
// Tensors of a release that take no part in the computation of text: layers that predict further tokens,
// towers for images and sound, tables that older programs stored. They are left out by their names, and told;
// any other tensor that the model does not ask for is refused.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/checkpoint_index.h"

namespace sluice::format {

struct SkippedTensors {
  std::string
      group;  ///< what their names begin or end with: "model.visual.", "model.layers.46.", ".inv_freq"
  std::uint64_t tensors = 0;

  bool operator==(const SkippedTensors&) const = default;
};

/// Facts of a model that decide about the tensors that it does not ask for.
struct SkipRule {
  std::uint64_t layers = 0;             ///< of the model
  std::uint64_t prediction_layers = 0;  ///< behind them, which the configuration announces
  bool tied_embeddings = false;         ///< a head in the files is a copy of the embedding, or never used
};

/// The group of a tensor that is left out; nothing for one that is not known. A layer behind the model's is
/// left out where `rule` announces it, or where the layer has a tensor that only prediction layers have.
[[nodiscard]] std::optional<std::string> skipped_group(std::string_view tensor, const SkipRule& rule,
                                                       const CheckpointIndex& checkpoint);

/// Counts one tensor of a group.
void add_skipped(std::string group, std::vector<SkippedTensors>& skipped);

}  // namespace sluice::format
