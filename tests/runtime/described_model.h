#pragma once
// Models with random weights for any description, written straight into containers: properties that must hold
// for every family are tested on descriptions that nobody has released.

#include <cstdint>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "convert/convert.h"
#include "format/model_description.h"

namespace sluice::tests {

/// The values of a model's tensors, row-major, by native name. Matrices hold bf16 values.
using ModelWeights = std::map<std::string, std::vector<float>>;

/// A small model out of all that the forward pass computes: layers of up to three kinds, each with its own
/// attention, rope, and dense feed-forward or mixture with any router. No width is a multiple of anything.
/// The vocabulary has room for the tokenizer that write_container() stores.
[[nodiscard]] format::ModelDescription random_description(std::mt19937_64& random);

/// Norms are near 1, biases near 0, matrices have the variance 1 / inputs. The values of a tensor depend only
/// on the seed, its name and its shape.
[[nodiscard]] ModelWeights random_weights(const format::ModelDescription& description, std::uint64_t seed);

/// Writes a container of these weights, each class of matrices in the type that `quant` gives it. Returns its
/// path.
std::filesystem::path write_container(const std::filesystem::path& path,
                                      const format::ModelDescription& description,
                                      const ModelWeights& weights, convert::Quant quant);

}  // namespace sluice::tests
