#pragma once
// A model's weights as the forward pass sees them: views into the mapped container, and small float tensors
// copied into padded rows. Also which of them have been verified.
//
// Shapes are [outputs, inputs], as in the checkpoint. Everything is immutable after opening, except the flags
// of what has been verified, which are atomic; so engines on several threads may share a model.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/parallel.h"
#include "format/container_proofs.h"
#include "format/container_reader.h"
#include "format/model_tensors.h"
#include "runtime/kernels/buffer.h"
#include "runtime/kernels/products.h"
#include "runtime/memory/latent_keys.h"
#include "runtime/memory/supported_model.h"
#include "runtime/runtime.h"

namespace sluice::runtime {

using format::TensorRole;

/// The unit of verification: an expert, or a tensor that belongs to no expert.
using ProofPart = format::ContainerProofs::Part;

struct WeightMatrix {
  Matrix matrix;
  ProofPart part;
};

struct ExpertWeights {
  WeightMatrix gate;  ///< [hidden, dim], w1 in Mistral's names
  WeightMatrix up;    ///< [hidden, dim], w3
  WeightMatrix down;  ///< [dim, hidden], w2
  /// All three with their biases. Those that every token uses beside experts are no part: each of their
  /// matrices is one.
  ProofPart part;
};

/// A dense feed-forward that every token uses in addition to its experts.
struct SharedWeights {
  ExpertWeights expert;
  Buffer<float> router;  ///< [dim padded]; empty: the result is added as it is
};

// In the weights of mixers and layers float rows are padded to whole tiles with zeros, and empty where the
// layer has no such tensor. A mixer's matrices() are those that every token reads, the first one that reads
// the layer's input before the others.

/// Grouped-query attention.
struct AttentionWeights {
  WeightMatrix query;  ///< [heads x head_dim, dim]; with an output gate [heads x (query, gate)]
  WeightMatrix key;    ///< [kv_heads x head_dim, dim]
  std::optional<WeightMatrix> value;   ///< like key; absent: values are what `key` makes
  Buffer<float> query_bias;            ///< [rows of query padded]
  Buffer<float> key_bias, value_bias;  ///< [kv_heads x head_dim padded]
  Buffer<float> query_norm, key_norm;  ///< [head_dim padded], or over the full width like the biases
  Buffer<float> value_norm;            ///< [head_dim padded] ones: this norm has no weights
  Buffer<float> sinks;                 ///< [heads padded]
  WeightMatrix output;                 ///< [dim, heads x head_dim]
  Buffer<float> output_bias;           ///< [dim padded]

  [[nodiscard]] std::vector<const WeightMatrix*> matrices() const {
    std::vector<const WeightMatrix*> all{&query, &key};
    if (value) all.push_back(&*value);
    all.push_back(&output);
    return all;
  }
};

/// Latent attention.
struct LatentWeights {
  std::optional<WeightMatrix> query_latent;  ///< [query_rank, dim]; absent: queries are made in one step
  Buffer<float> query_latent_norm;           ///< [query_rank padded]
  WeightMatrix query;                        ///< [heads x (plain_dims + rotary_dims), dim, or query_rank]
  WeightMatrix latent;                       ///< [latent_rank + rotary_dims, dim]
  Buffer<float> latent_norm;                 ///< [latent_rank padded]
  WeightMatrix key_value;  ///< [heads x (plain_dims + value_dims), latent_rank]; read for values alone
  LatentKeys keys;         ///< its keys
  WeightMatrix output;     ///< [dim, heads x value_dims]

  [[nodiscard]] std::vector<const WeightMatrix*> matrices() const {
    std::vector<const WeightMatrix*> all;
    if (query_latent) all.push_back(&*query_latent);
    all.insert(all.end(), {&query, &latent, &key_value, &output});
    return all;
  }
};

/// A gated delta net. Where a release packs its input matrices by key head, one matrix makes all inputs.
struct DeltaNetWeights {
  format::GatedDeltaNet shape;
  WeightMatrix query_key_value;      ///< [channels, dim]; packed: [channels + value rows, dim]
  std::optional<WeightMatrix> gate;  ///< [value rows, dim]; absent where inputs are packed
  Buffer<float> beta_decay;   ///< [2 x value heads][dim padded]: beta of all heads, then decay of all heads
  Buffer<float> convolution;  ///< [taps][channels padded]
  Buffer<float> decay_rate;   ///< [value heads] -exp(A_log): the factor in the exponent of the decay
  Buffer<float> time_bias;    ///< [value heads padded], added to decay
  Buffer<float> norm;         ///< [value_dim padded]
  WeightMatrix output;        ///< [dim, value rows]

  [[nodiscard]] std::vector<const WeightMatrix*> matrices() const {
    if (gate) return {&query_key_value, &*gate, &output};
    return {&query_key_value, &output};
  }
};

/// A short convolution.
struct ShortConvolutionWeights {
  std::size_t taps;
  WeightMatrix input;         ///< [3 x dim, dim]: two gates, then the values
  Buffer<float> convolution;  ///< [taps][dim padded]
  WeightMatrix output;        ///< [dim, dim]

  [[nodiscard]] std::vector<const WeightMatrix*> matrices() const { return {&input, &output}; }
};

using MixerWeights = std::variant<AttentionWeights, LatentWeights, DeltaNetWeights, ShortConvolutionWeights>;

[[nodiscard]] inline std::vector<const WeightMatrix*> matrices_of(const MixerWeights& mixer) {
  return std::visit([](const auto& weights) { return weights.matrices(); }, mixer);
}

struct LayerWeights {
  Buffer<float> mixer_norm;  ///< [dim padded]
  MixerWeights mixer;
  Buffer<float> ffn_norm;        ///< [dim padded]
  Buffer<float> router;          ///< [expert][dim padded]; empty in dense layers
  Buffer<float> router_bias;     ///< [expert], added to the logits
  Buffer<float> selection_bias;  ///< [expert], added to the scores for choosing
  Buffer<float> router_norm;     ///< [dim padded], of the router's own input, with the factor dim^-0.5
  Buffer<float> expert_scale;    ///< [expert], factors of the weights
  Buffer<float> mixer_post_norm, ffn_post_norm;                    ///< [dim padded]
  Buffer<float> experts_norm, experts_post_norm, dense_post_norm;  ///< [dim padded]
  float output_scale = 1;
  std::optional<SharedWeights> shared;
  std::optional<ExpertWeights> dense;  ///< in addition to experts
  std::vector<ExpertWeights> experts;  ///< the one feed-forward of a dense layer
  format::TileType mixer_input;        ///< the type of the matrices that read the mixer's input
  std::vector<ProofPart> parts;        ///< matrices that every token reads beside experts
};

/// Rows that tokens become first: bf16 rows, or, where the embedding is tied to the head, rows of the head's
/// tiles, or rows of floats that are the head.
struct Embedding {
  ProofPart part;
  const std::uint16_t* rows = nullptr;  ///< [vocab][dim] bf16; null where it is tied
  std::optional<Matrix> tiles;
  const float* floats = nullptr;  ///< [vocab][dim padded]
  Buffer<float> padded;           ///< holds them where the container's rows are narrower

  /// Writes the `dim` values of a token.
  void read(std::uint64_t token, std::uint64_t dim, float* out) const;
};

struct Model::Impl {
  Impl(const std::filesystem::path& path, const ModelOptions& options);

  format::ContainerReader container;
  Verify verify;
  std::unique_ptr<format::ContainerProofs> proofs;
  const DecoderShape shape;
  std::unique_ptr<text::Tokenizer> tokenizer;

  Embedding embedding;
  std::vector<LayerWeights> layers;
  Buffer<float> final_norm;
  std::optional<WeightMatrix> head;  ///< absent: embedding.floats

  /// True when `part` must be verified before it is used.
  [[nodiscard]] bool unproven(ProofPart part) const { return verify != Verify::off && !proofs->proven(part); }
  /// Verifies those of `parts` that have not been verified, with all of the pool's workers. A mismatch is
  /// Error{verification} naming the tensor.
  void prove(std::span<const ProofPart> parts, base::WorkerPool& pool) const;

 private:
  void ask_for_huge_pages() const;
  void prove_opened(unsigned thread_count) const;
  /// Index into container.tensors().
  [[nodiscard]] std::size_t find(TensorRole role, std::uint64_t layer = 0, std::uint64_t expert = 0) const;
  [[nodiscard]] WeightMatrix matrix(TensorRole role, std::uint64_t layer = 0, std::uint64_t expert = 0) const;
  [[nodiscard]] WeightMatrix matrix(std::size_t index) const;
  [[nodiscard]] Buffer<float> padded_rows(TensorRole role, std::uint64_t layer = 0) const;
  /// The factors of a norm, which a model may store less one.
  [[nodiscard]] Buffer<float> norm_weights(TensorRole role, std::uint64_t layer = 0) const;
  /// Padded rows, or nothing when the description has no such tensor.
  [[nodiscard]] Buffer<float> rows_if(bool present, TensorRole role, std::uint64_t layer) const;
  [[nodiscard]] Embedding open_embedding() const;
  [[nodiscard]] std::optional<WeightMatrix> open_head() const;
  [[nodiscard]] LayerWeights open_layer(std::uint64_t layer) const;
  /// The feed-forwards that every token uses beside experts.
  void open_unrouted(std::uint64_t layer, LayerWeights& w) const;
  [[nodiscard]] Buffer<float> open_router_norm(std::uint64_t layer) const;
  [[nodiscard]] MixerWeights open_mixer(const format::GroupedQueryAttention& attention,
                                        std::uint64_t layer) const;
  [[nodiscard]] MixerWeights open_mixer(const format::LatentAttention& attention, std::uint64_t layer) const;
  [[nodiscard]] MixerWeights open_mixer(const format::GatedDeltaNet& net, std::uint64_t layer) const;
  [[nodiscard]] MixerWeights open_mixer(const format::ShortConvolution& convolution,
                                        std::uint64_t layer) const;
  /// The weights of a causal convolution [channels, taps], as [taps][channels padded].
  [[nodiscard]] Buffer<float> convolution_weights(TensorRole role, std::uint64_t layer) const;
  /// The rows of beta and decay of all value heads, whatever their order in the container.
  [[nodiscard]] Buffer<float> beta_decay_rows(const format::GatedDeltaNet& net, std::uint64_t layer) const;
  void require_room_for_latent_keys() const;
  [[nodiscard]] std::vector<ExpertWeights> open_experts(std::uint64_t layer) const;
};

}  // namespace sluice::runtime
