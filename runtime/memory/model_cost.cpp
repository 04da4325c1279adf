// Computes what one token costs: bytes that decoding reads, and operations of a prefill. Both are estimates
// for messages and benchmarks; nothing is allocated by them.

#include "runtime/memory/model_cost.h"

#include "base/invariant.h"
#include "format/model_tensors.h"

namespace sluice::runtime {
namespace {

/// Adds up a size of tensors: all of it for most, for experts the share that a token uses.
class UsedSize final {
 public:
  explicit UsedSize(const format::ModelDescription& description)
      : description_(description), by_layer_(description.layer_count()) {}

  void add(const format::ModelTensor& tensor, std::uint64_t size) {
    (tensor.expert ? by_layer_[tensor.layer] : total_) += size;
  }

  [[nodiscard]] std::uint64_t total() const {
    std::uint64_t total = total_;
    for (std::uint64_t layer = 0; layer < by_layer_.size(); ++layer) {
      const format::LayerDescription& described = description_.layer(layer);
      total += format::experts_per_token(described) * by_layer_[layer] / format::expert_count(described);
    }
    return total;
  }

 private:
  const format::ModelDescription& description_;
  std::uint64_t total_ = 0;
  std::vector<std::uint64_t> by_layer_;  // of all its experts
};

}  // namespace

std::uint64_t decode_bytes_per_token(const format::ModelDescription& description,
                                     const std::vector<format::ContainerTensor>& tensors) {
  const auto described = format::model_tensors(description);
  INVARIANT(described.size() == tensors.size());
  UsedSize bytes(description);
  for (std::size_t i = 0; i < tensors.size(); ++i)
    // Only one row of the embedding is read for each token, unless it is the head as well.
    if (description.tied_embeddings || described[i].role != format::TensorRole::embedding)
      bytes.add(described[i], tensors[i].length_bytes);
  return bytes.total();
}

std::uint64_t prefill_operations_per_token(const format::ModelDescription& description) {
  UsedSize weights(description);
  for (const format::ModelTensor& tensor : format::model_tensors(description)) {
    const bool in_layer =
        tensor.role != format::TensorRole::embedding && tensor.role != format::TensorRole::head;
    if (in_layer && tensor.shape.size() == 2) weights.add(tensor, tensor.shape[0] * tensor.shape[1]);
  }
  // A multiplication and an addition for each weight. Most tokens of a prompt do not go through the head.
  return 2 * weights.total();
}

}  // namespace sluice::runtime
