#pragma once
// Rotary position embedding (RoPE, arXiv 2104.09864) as a table that is made when a model is loaded: one
// frequency a pair of values, and a factor of cosines and sines. So the rules that stretch a model's context
// (YaRN and others) end here, and rotating a head knows none of them. Everything is computed with our own
// functions, since those of the C library differ between machines.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "format/model_description.h"

namespace sluice::runtime {

/// Queries of a position are multiplied by this: 1 + beta ln(1 + floor(position / original context)), and 1
/// where there is no temperature.
[[nodiscard]] float query_temperature(const std::optional<format::QueryTemperature>& temperature,
                                      std::uint64_t position);

class Rope {
 public:
  /// `description` is valid by format::validate(). Error{malformed} when a frequency is not finite.
  explicit Rope(const format::Rope& description);

  /// How many pairs rotate: rotary_dims / 2.
  [[nodiscard]] std::size_t pairs() const { return frequencies_.size(); }
  /// The angle of each pair from one position to the next, in radians.
  [[nodiscard]] std::span<const float> frequencies() const { return frequencies_; }

  /// Fills cosines and sines [pairs()] of one position.
  void angles(std::uint64_t position, float* cosines, float* sines) const;

  /// Rotates the pairs of one head in place. The values behind its rotary dims stay as they are.
  void rotate(const float* cosines, const float* sines, float* head) const;

 private:
  format::RopeStyle style_;
  double factor_;                   // of cosines and sines
  std::vector<float> frequencies_;  // f32, as the models were trained with
};

}  // namespace sluice::runtime
