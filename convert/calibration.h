#pragma once
// What was learnt from a calibration text, on its way into the rounding of the experts' rows.

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "convert/convert.h"
#include "convert/gptq.h"
#include "format/json.h"
#include "format/model_tensors.h"

namespace sluice::convert {

/// An expert that saw fewer tokens than this is starved: 8 tokens for each input of a block of moments.
constexpr std::uint64_t kExpertTokensMin = 8 * format::kMomentBlock;

/// Fills the moments of starved experts up to kExpertTokensMin tokens with the mean of their layer, so that
/// one that saw nothing is rounded for the layer's average token. Returns their indices.
[[nodiscard]] std::vector<std::uint64_t> feed_starved(format::LayerStatistics& statistics);

/// Serves the tensors of a conversion in container order; holds one layer's statistics at a time.
class CalibrationFeed {
 public:
  CalibrationFeed(const Calibration& calibration, const format::ModelParams& params);

  /// An earlier run has finished a tensor, whose expert saw so many tokens.
  void restore(const format::ModelTensor& tensor, std::uint64_t tokens);

  /// For an expert's matrix; valid until the next call.
  [[nodiscard]] const Compensation& find(const format::ModelTensor& tensor);

  /// That the tensor's expert saw; 0 for tensors of none.
  [[nodiscard]] std::uint64_t tokens(const format::ModelTensor& tensor) const;
  /// Of the text that were run. This and what follows is for the end, when all experts are known.
  [[nodiscard]] std::uint64_t tokens_total() const;
  /// What the container records: the text, and how many tokens each expert saw.
  [[nodiscard]] format::Json to_json() const;
  [[nodiscard]] std::vector<StarvedExpert> starved() const;

 private:
  void load_next_layer();

  const Calibration& calibration_;
  const format::ModelParams& params_;
  std::optional<format::LayerStatistics> statistics_;
  // Of the expert at hand; w1 and w3 share the first.
  std::uint64_t expert_ = 0;
  std::unique_ptr<Compensation> up_;
  std::unique_ptr<Compensation> down_;
  std::vector<std::vector<std::uint64_t>> expert_tokens_;  ///< [layer][expert]
};

}  // namespace sluice::convert
