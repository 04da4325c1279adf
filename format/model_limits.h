#pragma once
// Bounds of what describes a model: no model comes near them, and no count of weights or bytes that follows
// overflows 63 bits (3 x 2^20 x 2^20 weights an expert, 2^16 experts in all layers, 4 bytes each).

#include <cstdint>

namespace sluice::format {

constexpr std::uint64_t kWidthMax = 1u << 20;
constexpr std::uint64_t kVocabularyMax = 1u << 24;
constexpr std::uint64_t kLayersMax = 1u << 10;
constexpr std::uint64_t kExpertsMax = 1u << 10;
/// Experts of all layers together. Bounds the list of tensors, which is made before any of them is looked
/// for.
constexpr std::uint64_t kExpertsTotalMax = 1u << 16;
constexpr std::uint64_t kTokensMax = 1u << 30;  ///< windows and context lengths
constexpr double kEpsilonMin = 1e-12;
constexpr double kEpsilonMax = 1;
constexpr double kRopeBaseMin = 1;
constexpr double kRopeBaseMax = 1e12;
constexpr double kFactorMin = 1e-6;  ///< scales, caps and the constants of activations and RoPE
constexpr double kFactorMax = 1e6;

}  // namespace sluice::format
