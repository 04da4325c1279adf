#pragma once
// Turns the statistics of a calibration text into the factors with which the experts' rows are rounded.

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "convert/convert.h"
#include "convert/gptq.h"
#include "format/json.h"
#include "format/model_tensors.h"

namespace sluice::convert {

/// An expert that saw fewer tokens than this is under-calibrated: 8 tokens for each input of a block of
/// moments.
constexpr std::uint64_t kExpertTokensMin = 8 * format::kMomentBlock;

/// Fills the moments of under-calibrated experts up to kExpertTokensMin tokens with the mean of their layer,
/// so that an expert that saw no token is rounded for the layer's average token. Returns their indices.
[[nodiscard]] std::vector<std::uint64_t> fill_under_calibrated(format::LayerStatistics& statistics);

/// Gives the factors of a conversion's tensors in container order. It holds the statistics of one layer at a
/// time. Used by one thread at a time.
class CalibrationFeed {
 public:
  CalibrationFeed(const Calibration& calibration, const format::ModelDescription& description);

  /// Tells the feed that an earlier run has finished a tensor, and how many tokens its expert saw.
  void restore(const format::ModelTensor& tensor, std::uint64_t tokens);

  /// The factors of an expert's matrix; valid until the next call.
  [[nodiscard]] const GptqFactors& find(const format::ModelTensor& tensor);

  /// Number of tokens that the tensor's expert saw; 0 for tensors that belong to no expert.
  [[nodiscard]] std::uint64_t tokens(const format::ModelTensor& tensor) const;
  // The following are complete only when all experts have been converted.

  /// Number of tokens of the text that the model was run on.
  [[nodiscard]] std::uint64_t tokens_total() const;
  /// The container's recipe records this: the text's digest, and how many tokens each expert saw.
  [[nodiscard]] format::Json to_json() const;
  [[nodiscard]] std::vector<UnderCalibratedExpert> under_calibrated() const;

 private:
  void load_next_layer();

  const Calibration& calibration_;
  const format::ModelDescription& description_;
  std::optional<format::LayerStatistics> statistics_;
  // The factors of the current expert; gate and up have the same inputs and share `up_`.
  std::uint64_t expert_ = 0;
  std::unique_ptr<GptqFactors> up_;
  std::unique_ptr<GptqFactors> down_;
  std::vector<std::vector<std::uint64_t>> expert_tokens_;  ///< [layer][expert]
};

}  // namespace sluice::convert
