#pragma once
// Parameters of small models of any shape, for properties that must hold for all of them.

#include <random>

#include "format/mistral_params.h"
#include "tests/support/tiny_release.h"

namespace sluice::tests {

inline format::MistralParams random_params(std::mt19937_64& random) {
  const auto from = [&](std::uint64_t low, std::uint64_t high) { return low + random() % (high - low + 1); };
  format::MistralParams p = tiny_params();
  p.n_layers = from(1, 3);
  p.dim = from(17, 150);
  p.hidden_dim = from(17, 200);
  p.head_dim = 2 * from(2, 30);
  p.n_kv_heads = from(1, 3);
  p.n_heads = p.n_kv_heads * from(1, 3);
  p.num_experts = from(1, 9);
  p.num_experts_per_tok = from(1, p.num_experts);
  if (random() % 3 == 0) p.sliding_window = from(3, 40);
  return p;
}

}  // namespace sluice::tests
