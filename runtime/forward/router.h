#pragma once
// The choice of a token's experts from the router's logits, for every form of router that can be described.

#include <cstdint>
#include <span>

#include "format/model_description.h"
#include "runtime/kernels/buffer.h"
#include "runtime/kernels/kernels.h"

namespace sluice::runtime {

/// Chooses experts for one token at a time. Used by one thread; a worker has its own.
class ExpertChooser final {
 public:
  /// Takes memory for up to so many experts, of which a token uses so many.
  void reserve(std::size_t experts, std::size_t experts_per_token);

  /// Fills `chosen` with the best experts by a token's finite logits, best first, and `weights` with the
  /// factors of their results. Of equally good experts the one with the lower index comes first.
  /// `selection_bias` [expert] is null where the router has none.
  void choose(const Kernels& kernels, const format::Router& router, std::span<const float> logits,
              const float* selection_bias, std::span<std::uint32_t> chosen, std::span<float> weights);

  /// How far the last chosen expert was better than the best that was not chosen, by what choose() has
  /// compared: logits, or scores where the router has a selection bias or groups. Not after all were chosen.
  [[nodiscard]] float margin(std::size_t experts) const;

 private:
  void score(const Kernels& kernels, const format::Router& router, std::span<const float> logits);
  void weigh(const Kernels& kernels, const format::Router& router, std::span<const float> logits,
             std::span<const std::uint32_t> chosen, std::span<float> weights);

  Buffer<float> scores_;  // [expert] softmax over all experts, or sigmoid
  Buffer<float> ranks_;   // [expert] what experts are chosen by; -infinity once chosen or dropped
  Buffer<float> chosen_;  // [k] logits of the chosen, and their exponentials
  float last_chosen_ = 0;
};

}  // namespace sluice::runtime
