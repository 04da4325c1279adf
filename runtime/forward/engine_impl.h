#pragma once
// The forward pass: what an engine is made of, and the steps that engine.cpp, attention.cpp,
// latent_attention.cpp, router.cpp and mixture.cpp implement.
//
// A step computes rows: tokens of any number of sequences, in the order of the step's inputs. Rows of floats
// are padded with zeros to whole tiles (64), so that no kernel has a tail. R is the number of rows of the
// step.
//
// Everything in Engine::Impl belongs to the thread that calls step(), except inside a region of the pool:
// there each worker writes the rows or columns of its tasks, and its own Scratch.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "format/expert_statistics.h"
#include "runtime/forward/rope.h"
#include "runtime/forward/router.h"
#include "runtime/kernels/buffer.h"
#include "runtime/kernels/kernels.h"
#include "runtime/kernels/products.h"
#include "runtime/memory/kv_cache.h"
#include "runtime/memory/model_impl.h"
#include "runtime/memory/recurrent_state.h"
#include "runtime/memory/residency.h"
#include "runtime/onednn/onednn.h"
#include "runtime/runtime.h"

namespace sluice::runtime {

/// Inputs that share a scale before attention matrices and head: as few as before the experts' down
/// projection. Finer chunks cost time, but these matrices are a small part of the weights
/// (docs/decisions/0002-activation-chunks.md).
constexpr std::size_t kAttentionChunk = format::kActivationChunkDown;

struct Sequence::Impl {
  Engine::Impl& engine;
  std::uint64_t context_tokens;
  std::function<void(const RoutingEvent&)> on_routing;
  KvCache cache;
  std::uint64_t snapshots_max;
  std::uint64_t position = 0;  ///< tokens that have keys and values
  RecurrentState state = {};   ///< after these tokens; none: that of no token
  struct Snapshot {
    std::uint64_t position;
    RecurrentState state;
  };
  std::vector<Snapshot> snapshots = {};  ///< ascending; room for all of them is reserved

  /// Adds a snapshot. The oldest one makes room for it.
  void keep(std::uint64_t at, RecurrentState kept);
  /// Error{malformed} when the tokens do not fit the context, or are outside the vocabulary.
  void check(std::span<const TokenId> tokens) const;
};

/// Adds the time since it was made, or since the last lap, to a sum of seconds.
class Stopwatch final {
 public:
  void lap(double& seconds) {
    const auto now = std::chrono::steady_clock::now();
    seconds += std::chrono::duration<double>(now - start_).count();
    start_ = now;
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// A token that a step computes.
struct StepRow {
  Sequence::Impl* sequence;
  std::uint64_t position;
  TokenId token;
  std::size_t part;  ///< index into the step's parts
};

/// The rows of one sequence in a step, and the states that the step makes for it. A model without recurrent
/// layers has no states.
struct StepPart {
  Sequence::Impl* sequence;
  std::size_t first_row;
  std::size_t row_count;
  std::size_t snapshot_rows;     ///< rows that the snapshot has seen; 0: there is none
  RecurrentState snapshot = {};  ///< none where the snapshot is the end
  RecurrentState end = {};
  const float* from = nullptr;  ///< the state before the first row
};

/// Consecutive rows of a part whose last one makes a state.
struct StepRun {
  std::size_t first_row;
  std::size_t row_count;
  const float* from;
  float* to;
};

/// Widths of the rows of latent attention, padded to whole tiles.
struct LatentWidths {
  LatentWidths() = default;
  explicit LatentWidths(const format::LatentAttention& attention);
  std::size_t query_latent = 0;  ///< 0 where queries are made in one step
  std::size_t query = 0;         ///< all heads, each with its plain and its rotary part
  std::size_t key = 0;           ///< a latent and its rotary key, as they are made
  std::size_t plain = 0;         ///< plain part of one head's query
  std::size_t latent = 0;
  std::size_t absorbed = 0;  ///< an absorbed query and its rotary part, each padded to kLanes alone
  std::size_t result = 0;    ///< values of all heads
  std::size_t heads = 0;     ///< a number, not padded
};

/// Widths of a layer's rows, padded to whole tiles.
struct PaddedWidths {
  explicit PaddedWidths(const LayerShape& shape);
  std::size_t query = 0;      ///< all query heads of grouped-query attention, and their gates
  std::size_t heads = 0;      ///< its results of all heads
  std::size_t gates = 0;      ///< their gates; 0 where there are none
  std::size_t key_value = 0;  ///< all its key heads, or all its value heads
  LatentWidths latent;        ///< of latent attention
  std::size_t channels = 0;   ///< of a causal convolution
  std::size_t inputs = 0;     ///< of a recurrent mixer, where one matrix makes them all
  std::size_t result = 0;     ///< of a recurrent mixer, before its output matrix
  std::size_t hidden;         ///< of one expert
  std::size_t shared;         ///< hidden values of the shared expert; 0 where there is none
  std::size_t dense;          ///< the same of a dense feed-forward in addition to experts
};

/// A layer while it is computed.
struct Layer {
  std::size_t index;
  const LayerShape& shape;
  const PaddedWidths& padded;
  const LayerWeights& weights;
};

/// A rope of the model, and the angles of a step's rows, which all layers with this rope share.
struct RopeAngles {
  Rope rope;
  Buffer<float> cosines;  ///< [R][pairs]
  Buffer<float> sines;    ///< [R][pairs]
};

/// Everything that a step computes on its way, in memory that is allocated once, for the widest layer. Widths
/// are padded, and rows are as far apart as the layer at hand has them wide.
struct Activations {
  Buffer<float> x;                  ///< [R][dim] residual stream
  Buffer<float> normed;             ///< [R][dim]
  Buffer<float> query;              ///< [R][query]
  Buffer<float> output_gate;        ///< [R][heads] of grouped-query attention
  Buffer<float> key;                ///< [R][key_value]; a latent and its rotary key
  Buffer<float> value;              ///< [R][key_value]
  Buffer<float> heads;              ///< [R][heads] attention's output, head after head
  Buffer<float> query_latent;       ///< [R][query_latent]
  Buffer<float> absorbed;           ///< [R][head][absorbed]
  Buffer<float> recurrent_in;       ///< [R][inputs]
  Buffer<float> channels;           ///< [R][channels] inputs of a convolution
  Buffer<float> convolved;          ///< [R][channels]
  Buffer<float> gate;               ///< [R][result] of a delta net
  Buffer<float> beta_decay;         ///< [R][beta of all value heads, decay of all value heads]
  Buffer<float> result;             ///< [R][result]
  Buffer<float> block_out;          ///< [R][dim] what attention or mixture adds to x
  Buffer<float> router;             ///< [R][expert] logits
  Buffer<float> logits;             ///< [row with logits][vocab]
  InputRowsBuffer mixer_in;         ///< normed, for the matrices that read the layer's input
  InputRowsBuffer query_latent_in;  ///< query_latent, for the matrix that makes queries of it
  InputRowsBuffer plain_in;         ///< [head][R] plain parts of queries, for the keys
  InputRowsBuffer latent_in;        ///< [head][R] weighted sums of latents, for the values
  InputRowsBuffer attention_out;    ///< heads, for the output projection
  InputRowsBuffer recurrent_out;    ///< result, for the output projection
  InputRowsBuffer mixture_in;       ///< normed, for all feed-forwards but those with dense_in
  InputRowsBuffer head_in;          ///< normed, for the output matrix
  InputRowsBuffer expert_in;        ///< [assignment] the row of mixture_in
  InputRowsBuffer expert_hidden;    ///< [assignment] activation(gate) * up
  InputRowsBuffer shared_hidden;    ///< the same of the shared expert, [R]
  InputRowsBuffer dense_hidden;     ///< and of a dense feed-forward in addition to experts, [R]
  // Only where such a dense feed-forward has norms of its own, or the router an input of its own:
  InputRowsBuffer dense_in;
  Buffer<float> dense_out;  ///< [R][dim]
  Buffer<float> router_in;  ///< [R][dim]
};

/// Which experts the rows of a step go to in one layer.
struct Routing {
  std::vector<std::uint32_t> experts;  ///< [row][k], best first
  std::vector<float> weights;          ///< [row][k]
  std::vector<float> shared_weights;   ///< [row] of the shared expert's result
  std::vector<float> margins;          ///< [row]; empty unless k < experts and somebody listens
  struct Assignment {
    std::uint32_t row;
    float weight;
  };
  std::vector<Assignment> assignments;          ///< [R * k] by expert, then by row: what experts compute
  std::vector<std::uint32_t> first_assignment;  ///< [expert], and the number of assignments as the last
  std::vector<std::uint32_t> used;              ///< experts with rows, ascending

  [[nodiscard]] std::span<const Assignment> assignments_of(std::size_t expert) const {
    return std::span(assignments)
        .subspan(first_assignment[expert], first_assignment[expert + 1] - first_assignment[expert]);
  }
};

/// The rows that the experts of one layer read, as floats, for calibration.
struct ExpertInputs {
  const Routing& routing;
  const float* gate_up;  ///< [row][gate_up_width]
  std::size_t gate_up_width;
  const float* down;  ///< [assignment][down_width]
  std::size_t down_width;
};

/// Sees the inputs of the experts of every layer that is run, after they were computed with. On the engine's
/// thread.
class ExpertInputObserver {
 public:
  virtual ~ExpertInputObserver() = default;
  virtual void observe(const ExpertInputs& inputs, base::WorkerPool& pool) = 0;
};

/// The kernels' form of a description's activation.
[[nodiscard]] GatedActivation gated_activation(const format::Activation& activation);

/// Some hidden values of an expert: activation(gate in) * (up in).
struct HiddenSlice {
  Matrix gate;
  Matrix up;
  InputRows in;
  InputRows hidden;  ///< gets the values, quantized
  std::size_t first_panel;
  std::size_t panels;
  float* observed;  ///< [row][hidden columns] gets them as floats, too; or null
};

/// A feed-forward that every row uses beside its experts: shared expert, or dense.
struct Unrouted {
  const ExpertWeights* weights;
  InputRows in;
  InputRows hidden;
  float* out;                ///< [R][dim], to which results are added
  const float* row_weights;  ///< [R] factors of the results; null: 1

  [[nodiscard]] std::size_t hidden_panels() const { return hidden.cols() / format::kPanelRows; }
};

/// A matrix and the rows [R][matrix rows padded] that its product fills.
struct Product {
  const Matrix* matrix;
  float* out;
  std::size_t out_stride;
};

struct Engine::Impl {
  Impl(const Model& model_in, EngineOptions options_in);

  StepLogits step(std::span<const StepInput> inputs, const std::stop_token& stop);

  /// The parts of a step, for calibration, which runs layers one by one. begin() puts rows with their
  /// embeddings into activations.x; then come the layers in order. KV pages must be reserved before, and
  /// positions do not advance.
  void begin(std::span<const StepInput> inputs);
  void run_layer(std::size_t index);

  const Model& model;
  const DecoderShape& shape;
  EngineOptions options;
  const Isa isa;
  const Kernels& kernels;
  const GatedActivation activation;
  base::WorkerPool pool;
  OneDnnProducts onednn;
  ResidentWeights weights;
  bool limit_too_low = false;  ///< options.memory_bytes has no effect
  KvPool kv_pool;
  RecurrentPool recurrent_pool;
  const std::size_t dim;             ///< width of the residual stream, padded to whole tiles
  const std::size_t vocab;           ///< padded to whole tiles
  std::vector<PaddedWidths> padded;  ///< [layer]
  std::vector<RopeAngles> ropes;     ///< as in DecoderShape
  PartSeconds part_seconds;

  std::vector<StepRow> rows;    ///< of the step at hand
  std::vector<StepPart> parts;  ///< of the step at hand, by sequence
  Activations activations;
  Routing routing;
  std::vector<Unrouted> unrouted;  ///< of the layer at hand
  struct Scratch {                 ///< one a worker
    Buffer<float> head;   ///< a key and a value, or queries and attention's results, padded to kLanes
    Buffer<float> gate;   ///< [rows][slice]
    Buffer<float> up;     ///< [rows][slice]
    Buffer<float> delta;  ///< a head's rows of kDeltaTokens tokens
    std::vector<const float*> taps;  ///< inputs of a convolution, oldest first
    ExpertChooser chooser;
  };
  std::vector<Scratch> scratch;

  ExpertInputObserver* observer = nullptr;
  Buffer<float> observed_hidden;  ///< [assignment][hidden]: only for the observer

 private:
  void reserve();
  void reserve_layer(std::size_t index, std::size_t row_count);
  void decide_residency();
  void check(std::span<const StepInput> inputs) const;
  void reserve_pages(std::span<const StepInput> inputs);
  /// Error{usage} unless there are as many free states as the step makes.
  void require_states(std::span<const StepInput> inputs) const;
  void commit();
  void embed();
  StepLogits head(std::span<const StepInput> inputs);
  void float_head(const InputRows& in);
  void check_logits(std::span<const StepInput> inputs, const StepLogits& logits) const;

  [[nodiscard]] Layer layer_at(std::size_t index);
  void rms_norm(const Buffer<float>& weight, InputRowsBuffer& out, format::TileType reader,
                std::size_t chunk);
  /// x = (x + residual scale * norm(block_out)) * output_scale; an empty norm changes nothing.
  void add_residual(const Buffer<float>& post_norm, float output_scale);

  // A mixer makes block_out of mixer_in, and reserves its activations. Each kind has a file of its own.

  // attention.cpp
  void mix(const Layer& layer, const AttentionWeights& w);
  void reserve_mixer(const AttentionWeights& w, const PaddedWidths& widths, std::size_t row_count);
  void finish_queries(const Layer& layer, const AttentionWeights& w, std::size_t row, unsigned worker);
  void finish_keys_and_values(const Layer& layer, const AttentionWeights& w, std::size_t row,
                              unsigned worker);
  void split_gates(const Layer& layer, std::size_t row);
  void finish_row(const Layer& layer, const Buffer<float>* norm, std::size_t true_width, std::size_t width,
                  float* row);
  void finish_head(const Layer& layer, std::size_t row, const Buffer<float>& norm, std::size_t stride,
                   float* head);
  void attend(const Layer& layer, const AttentionWeights& w);

  // latent_attention.cpp
  void mix(const Layer& layer, const LatentWeights& w);
  void reserve_mixer(const LatentWeights& w, const PaddedWidths& widths, std::size_t row_count);
  void project_latents(const Layer& layer, const LatentWeights& w);
  void store_latent(const Layer& layer, const LatentWeights& w, std::size_t row, unsigned worker);
  void finish_latent_queries(const Layer& layer, const LatentWeights& w, std::size_t row, unsigned worker);
  void attend_latents(const Layer& layer, const LatentWeights& w);
  [[nodiscard]] std::size_t heads_together(std::size_t heads) const;
  void absorb_key(const Layer& layer, const LatentWeights& w, std::size_t head, std::size_t slice,
                  unsigned worker);
  void attend_heads(const Layer& layer, const LatentWeights& w, std::size_t row, std::size_t first,
                    std::size_t count, unsigned worker);
  [[nodiscard]] static std::size_t value_panels(const Layer& layer);
  void expand_value(const Layer& layer, const LatentWeights& w, std::size_t head, std::size_t slice,
                    unsigned worker);
  [[nodiscard]] float latent_norm_epsilon(const Layer& layer) const;
  void rotate(const Layer& layer, std::size_t row, float* head);
  [[nodiscard]] InputRows head_rows(InputRowsBuffer& buffer, const Matrix& matrix, std::size_t head) const;

  // recurrent.cpp
  /// Takes the states that the step makes for the part.
  void take_states(StepPart& part);
  /// The runs of a part, in order: up to its snapshot, and to its end.
  [[nodiscard]] std::array<StepRun, 2> runs_of(const StepPart& part) const;
  /// convolved = the causal convolution of `channels`, over the tokens of each row's sequence. Keeps the last
  /// inputs in the states that the step makes.
  void convolve(const Layer& layer, const Buffer<float>& factors, std::size_t taps, bool silu);
  void reserve_recurrent(const WeightMatrix& output, std::size_t taps, const PaddedWidths& widths,
                         std::size_t row_count);
  /// block_out = output x result
  void recurrent_output(const Layer& layer, const Matrix& output);

  // delta_net.cpp
  void mix(const Layer& layer, const DeltaNetWeights& w);
  void reserve_mixer(const DeltaNetWeights& w, const PaddedWidths& widths, std::size_t row_count);
  void unpack_inputs(const Layer& layer, const format::GatedDeltaNet& net);
  void beta_and_decay(const Layer& layer, const DeltaNetWeights& w);
  void delta_head(const Layer& layer, const DeltaNetWeights& w, std::size_t head, const StepRun& run,
                  unsigned worker);

  // short_convolution.cpp
  void mix(const Layer& layer, const ShortConvolutionWeights& w);
  void reserve_mixer(const ShortConvolutionWeights& w, const PaddedWidths& widths, std::size_t row_count);

  // router.cpp
  void route(const Layer& layer);
  void router_logits(const Layer& layer);
  void require_finite_logits(const Layer& layer, std::size_t row, std::span<const float> logits) const;
  [[nodiscard]] float shared_weight(const Layer& layer, std::size_t row);
  void sort_assignments(const Layer& layer);
  void report_routing(const Layer& layer);

  // mixture.cpp
  void norm_inputs(const Layer& layer);
  void mixture(const Layer& layer);
  void norm_results(const Layer& layer);
  void reserve_mixture(std::size_t index, std::size_t row_count);
  void collect_unrouted(const Layer& layer);
  void gather(const Layer& layer);
  /// The rows that the expert computes, for `matrix`.
  [[nodiscard]] InputRows inputs_of(std::uint32_t expert, const Matrix& matrix);
  [[nodiscard]] InputRows hidden_of(std::uint32_t expert, const Matrix& matrix);
  void gate_and_up(const Layer& layer, const LayerExperts& experts);
  void hidden_slice(const HiddenSlice& slice, unsigned worker);
  void down(const LayerExperts& experts);

  // products.cpp
  /// Each matrix times the rows of `in`, in one region over all workers.
  void products(const InputRows& in, std::initializer_list<Product> list);
  /// Computes a slice of one product by own kernels or oneDNN: see multiply() in runtime/kernels/products.h.
  void multiply_slice(const Matrix& matrix, const InputRows& in, std::size_t first_panel, std::size_t panels,
                      float* out, std::size_t out_stride, unsigned worker);

  /// Calls body(row, worker) for all rows of the step. A single row, as in decoding, is computed by the
  /// calling thread, which spares waking the workers.
  template <typename F>
  void for_each_row(F body) {
    if (rows.size() == 1) return body(std::size_t{0}, 0u);
    pool.run(rows.size(), std::move(body));
  }
};

}  // namespace sluice::runtime
