#pragma once
// Rotary position embedding (RoPE) on interleaved pairs (arXiv 2104.09864, as in mistral-inference rope.py).
// Angles are computed with our own sine and cosine, since those of the C library differ between machines.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sluice::runtime {

/// Angles of a model.
class Rope {
 public:
  Rope(std::uint64_t head_dim, double theta);

  /// Fills cosines and sines [head_dim / 2] of one position.
  void angles(std::uint64_t position, float* cosines, float* sines) const;

  /// Rotates the pairs (x[2i], x[2i+1]) of one head in place.
  static void rotate(const float* cosines, const float* sines, std::size_t head_dim, float* x);

 private:
  std::vector<float> frequencies_;  // theta^(-2i / head_dim), in f32 as the model was trained with
};

}  // namespace sluice::runtime
