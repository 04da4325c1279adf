// Opening a model: from a container's directory to the views that the forward pass reads.
//
// Opening verifies what it uses: the tokenizer, and the norms and routers, which are copied. Matrices and
// experts stay unread in the mapping until somebody computes with them, unless Verify::full asks for all of
// them. An Impl must not move: its proofs refer to its container, and every matrix points into the mapping.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/invariant.h"
#include "base/text.h"
#include "format/hub/sections.h"
#include "format/hub/token_facts.h"
#include "format/tensor.h"
#include "runtime/kernels/fixed_math.h"
#include "runtime/memory/available_memory.h"
#include "runtime/memory/model_cost.h"
#include "runtime/memory/model_impl.h"
#include "text/text.h"

namespace sluice::runtime {
namespace {

text::ChatFormat open_chat_format(const format::ContainerReader& container,
                                  const format::TokenizerParts& parts, const text::Tokenizer& tokenizer) {
  const std::string_view text = format::read_section(container, format::kChatTemplateSection);
  text::ChatFormatSource source{.tokenizer_kind = parts.kind,
                                .chat_template = std::nullopt,
                                .subject = container.path().string() + ": chat template",
                                .tokenizer_config = parts.config};
  // Mistral's models know the ids of mistral-common. A template on the hub writes the same marks, but
  // SentencePiece gives other ids for their spaces when the conversation is one text.
  const bool mistral =
      parts.kind == format::TokenizerKind::sentencepiece && text.find("[INST]") != std::string_view::npos;
  if (!text.empty() && !mistral) source.chat_template = std::string(text);
  return text::ChatFormat(tokenizer, source);
}

/// The ids with which the template closes an answer, where the release does not list them among those that
/// end a text: without them an answer would never end.
std::vector<text::TokenId> missing_end_ids(const format::ContainerReader& container,
                                           const format::TokenizerParts& parts,
                                           const text::Tokenizer& tokenizer) {
  if (container.find_section(format::kChatTemplateSection) == nullptr) return {};
  try {
    auto ends = open_chat_format(container, parts, tokenizer).ends_of_turn();
    std::erase_if(ends, [&](text::TokenId id) { return tokenizer.is_end(id); });
    return ends;
  } catch (const base::Error& error) {
    // A template that cannot be used is told by those who use it; prompts without it need none.
    if (error.kind() == base::ErrorKind::verification) throw;
    return {};
  }
}

std::unique_ptr<text::Tokenizer> open_tokenizer(const format::ContainerReader& container) {
  const std::string subject = container.path().string();
  auto parts = format::tokenizer_parts(container);
  const std::string place = subject + ": " + std::string(format::section_name(parts.kind));
  auto tokenizer = text::open_tokenizer(parts, place);
  if (const auto missing = missing_end_ids(container, parts, *tokenizer); !missing.empty()) {
    const auto ends = tokenizer->end_ids();
    parts.facts.end_ids.assign(ends.begin(), ends.end());
    parts.facts.end_ids.insert(parts.facts.end_ids.end(), missing.begin(), missing.end());
    tokenizer = text::open_tokenizer(parts, place);
  }
  // A smaller tokenizer is fine: some models pad their vocabulary. A larger one would produce ids beyond the
  // embedding.
  if (tokenizer->size() > container.description().vocabulary) {
    base::throw_malformed(subject, "tokenizer has " + std::to_string(tokenizer->size()) +
                                       " pieces, the model a vocabulary of " +
                                       std::to_string(container.description().vocabulary));
  }
  return tokenizer;
}

void require_finite(const float* values, std::size_t count, std::string_view subject,
                    const std::string& name) {
  if (!std::all_of(values, values + count, [](float v) { return std::isfinite(v); }))
    base::throw_malformed(subject, "tensor '" + name + "' holds values that are not finite");
}

/// True when no weight of an mx4 matrix is NaN or infinite, and the rows of padding have codes of zero. No
/// exponent is NaN, also of padding, since zeros under it would be NaN in a product.
bool has_sound_mx4(const format::TileLayout& layout, base::Bytes bytes, bool& padding_is_zero) {
  // 6 x 2^(252 - 127) is below 2^128; only blocks with a larger exponent need a look at their codes.
  constexpr unsigned kSafeExponent = 252;
  const base::Bytes exponents =
      bytes.subspan(layout.exponents_offset_bytes, layout.panels * layout.panel_exponent_bytes());
  const auto largest = std::to_integer<unsigned>(*std::ranges::max_element(exponents));
  bool finite = largest < 255;
  for (std::uint64_t row = 0; row < layout.rows && largest > kSafeExponent; ++row) {
    for (std::uint64_t col = 0; col < layout.cols; col += format::kMx4BlockCols) {
      if (format::exponent_at(layout, bytes, row, col) <= kSafeExponent) continue;
      const std::uint64_t end = std::min(col + format::kMx4BlockCols, layout.cols);
      for (std::uint64_t c = col; c < end; ++c)
        finite &= std::isfinite(format::weight_at(layout, bytes, row, c));
    }
  }
  for (std::uint64_t row = layout.rows; row < layout.padded_rows; ++row)
    for (std::uint64_t col = 0; col < layout.padded_cols; ++col)
      padding_is_zero &= format::mx4_code_at(layout, bytes, row, col) == 0;
  return finite;
}

/// Checks what a digest cannot: a container from a stranger may be consistent with its digests and still hold
/// NaN or infinity, or weights other than zero in the padding of a matrix. These would reach the padding of
/// activations, which kernels add up like all other values. Integer codes cannot be invalid, so for q8, q6
/// and q4 the row scales suffice: a zero scale makes the padding rows zero. mx4 has exponents that are NaN,
/// and large ones with which codes are infinite.
void check_values(const format::ContainerReader& container, const format::ContainerTensor& tensor,
                  base::Bytes bytes) {
  const std::string subject = container.path().string();
  if (tensor.storage == format::Storage::bf16_rows || tensor.storage == format::Storage::bf16_tiles) {
    const std::span halves(reinterpret_cast<const std::uint16_t*>(bytes.data()), bytes.size() / 2);
    // An exponent of all ones is infinity or NaN.
    if (std::ranges::any_of(halves, [](std::uint16_t bits) { return (bits & 0x7F80) == 0x7F80; }))
      base::throw_malformed(subject, "tensor '" + tensor.name + "' holds values that are not finite");
  }
  if (tensor.storage == format::Storage::f32_rows)
    require_finite(reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float), subject,
                   tensor.name);
  if (!format::is_tiled(tensor.storage)) return;
  const format::TileLayout layout = tensor.tile_layout();
  bool padding_is_zero = true;
  if (layout.type == format::TileType::bf16) {
    for (std::uint64_t row = layout.rows; row < layout.padded_rows; ++row)
      for (std::uint64_t col = 0; col < layout.padded_cols; ++col)
        padding_is_zero &= format::weight_at(layout, bytes, row, col) == 0;
  } else if (layout.type == format::TileType::mx4) {
    if (!has_sound_mx4(layout, bytes, padding_is_zero))
      base::throw_malformed(subject, "tensor '" + tensor.name + "' holds values that are not finite");
  } else {
    const auto* scales = reinterpret_cast<const float*>(bytes.data() + layout.row_scales_offset_bytes);
    require_finite(scales, layout.padded_rows, subject, tensor.name);
    padding_is_zero =
        std::all_of(scales + layout.rows, scales + layout.padded_rows, [](float s) { return s == 0; });
  }
  if (!padding_is_zero)
    base::throw_malformed(subject, "tensor '" + tensor.name + "': its padding is not zero");
}

/// [count padded] ones, and zeros behind them.
Buffer<float> ones(std::uint64_t count) {
  Buffer<float> row(base::align_up(count, format::kTileCols));
  std::fill_n(row.data(), count, 1.0f);
  return row;
}

}  // namespace

Model::Impl::Impl(const std::filesystem::path& path, const ModelOptions& options)
    : container(format::ContainerReader::open(path)),
      verify(options.verify),
      proofs(std::make_unique<format::ContainerProofs>(
          container,
          format::ContainerProofs::Options{
              .record_paths =
                  verify == Verify::off ? std::vector<std::filesystem::path>() : options.proof_records,
              .believe_record = verify == Verify::first_use,
              .check = [this](const format::ContainerTensor& t,
                              base::Bytes bytes) { check_values(container, t, bytes); }})),
      shape(require_supported(container.description(), path.string())),
      tokenizer(open_tokenizer(container)),
      embedding(open_embedding()),
      head(open_head()) {
  ask_for_huge_pages();
  require_room_for_latent_keys();
  prove_opened(options.thread_count);
  final_norm = norm_weights(TensorRole::final_norm);
  for (std::uint64_t l = 0; l < shape.layers.size(); ++l) layers.push_back(open_layer(l));
}

Embedding Model::Impl::open_embedding() const {
  const std::size_t index = find(TensorRole::embedding);
  Embedding found;
  found.part = proofs->part_of(index);
  if (container.tensors()[index].storage == format::Storage::f32_rows) {
    if (shape.width % format::kTileCols != 0) found.padded = padded_rows(TensorRole::embedding);
    found.floats = found.padded.data() != nullptr
                       ? found.padded.data()
                       : reinterpret_cast<const float*>(container.bytes(container.tensors()[index]).data());
  } else if (shape.tied_embeddings) {
    found.tiles = matrix(TensorRole::embedding).matrix;
  } else {
    found.rows = reinterpret_cast<const std::uint16_t*>(container.bytes(container.tensors()[index]).data());
  }
  return found;
}

MixerWeights Model::Impl::open_mixer(const format::GroupedQueryAttention& attention, std::uint64_t l) const {
  const bool has_norms = attention.query_key_norm != format::QueryKeyNorm::none;
  const bool has_values = !attention.keys_are_values;
  return AttentionWeights{
      .query = matrix(TensorRole::query, l),
      .key = matrix(TensorRole::key, l),
      .value = has_values ? std::optional(matrix(TensorRole::value, l)) : std::nullopt,
      .query_bias = rows_if(attention.input_biases, TensorRole::query_bias, l),
      .key_bias = rows_if(attention.input_biases, TensorRole::key_bias, l),
      .value_bias = rows_if(attention.input_biases && has_values, TensorRole::value_bias, l),
      .query_norm = has_norms ? norm_weights(TensorRole::query_norm, l) : Buffer<float>(),
      .key_norm = has_norms ? norm_weights(TensorRole::key_norm, l) : Buffer<float>(),
      .value_norm = attention.value_norm ? ones(attention.head_dim) : Buffer<float>(),
      .sinks = rows_if(attention.sinks, TensorRole::sinks, l),
      .output = matrix(TensorRole::attention_output, l),
      .output_bias = rows_if(attention.output_bias, TensorRole::attention_output_bias, l),
  };
}

MixerWeights Model::Impl::open_mixer(const format::LatentAttention& attention, std::uint64_t l) const {
  const bool in_two_steps = attention.query_rank.has_value();
  const WeightMatrix key_value = matrix(TensorRole::latent_key_value, l);
  // transposed_keys() cannot turn blocks of inputs under one exponent, and convert never makes such a matrix.
  if (key_value.matrix.layout.type == format::TileType::mx4)
    base::throw_malformed(
        container.path().string(),
        "layer " + std::to_string(l) + ": latent keys and values of type mx4 are not supported");
  return LatentWeights{
      .query_latent = in_two_steps ? std::optional(matrix(TensorRole::query_latent, l)) : std::nullopt,
      .query_latent_norm = in_two_steps ? norm_weights(TensorRole::query_latent_norm, l) : Buffer<float>(),
      .query = matrix(in_two_steps ? TensorRole::latent_query : TensorRole::query, l),
      .latent = matrix(TensorRole::key_value_latent, l),
      .latent_norm = norm_weights(TensorRole::key_value_latent_norm, l),
      .key_value = key_value,
      .keys = transposed_keys(attention, key_value.matrix),
      .output = matrix(TensorRole::attention_output, l),
  };
}

// The keys of latent attention are copied while the model is opened, before anything else asks how much
// memory there is.
void Model::Impl::require_room_for_latent_keys() const {
  std::uint64_t needed = 0;
  for (std::uint64_t l = 0; l < shape.layers.size(); ++l) {
    const auto* latent = std::get_if<format::LatentAttention>(&shape.layers[l].mixer);
    if (latent == nullptr) continue;
    const auto bytes = latent_key_bytes(*latent, matrix(TensorRole::latent_key_value, l).matrix.layout.type);
    needed = base::checked_add(needed, bytes.value_or(UINT64_MAX)).value_or(UINT64_MAX);
  }
  const std::uint64_t available = available_memory_bytes();
  if (needed <= available) return;
  throw base::Error(base::ErrorKind::usage, container.path().string() +
                                                ": the keys of latent attention need " +
                                                base::to_human_bytes(needed) + " of memory, " +
                                                base::to_human_bytes(available) + " are free");
}

MixerWeights Model::Impl::open_mixer(const format::GatedDeltaNet& net, std::uint64_t l) const {
  const bool packed = net.inputs == format::DeltaInputs::packed;
  DeltaNetWeights w{
      .shape = net,
      .query_key_value = matrix(packed ? TensorRole::delta_packed : TensorRole::delta_query_key_value, l),
      .gate = packed ? std::nullopt : std::optional(matrix(TensorRole::delta_gate, l)),
      .beta_decay = beta_decay_rows(net, l),
      .convolution = convolution_weights(TensorRole::delta_convolution, l),
      .decay_rate = padded_rows(TensorRole::delta_decay_rate, l),
      .time_bias = padded_rows(TensorRole::delta_time_bias, l),
      .norm = padded_rows(TensorRole::delta_norm, l),  // plain also where the model's norms are not
      .output = matrix(TensorRole::delta_output, l),
  };
  for (std::uint64_t h = 0; h < net.value_heads; ++h)
    w.decay_rate[h] = -static_cast<float>(exponential(static_cast<double>(w.decay_rate[h])));
  return w;
}

MixerWeights Model::Impl::open_mixer(const format::ShortConvolution& convolution, std::uint64_t l) const {
  return ShortConvolutionWeights{.taps = static_cast<std::size_t>(convolution.convolution_tokens),
                                 .input = matrix(TensorRole::convolution_input, l),
                                 .convolution = convolution_weights(TensorRole::convolution_kernel, l),
                                 .output = matrix(TensorRole::convolution_output, l)};
}

Buffer<float> Model::Impl::convolution_weights(TensorRole role, std::uint64_t l) const {
  const auto& tensor = container.tensors()[find(role, l)];
  const std::size_t channels = tensor.shape[0];
  const std::size_t taps = tensor.shape[1];
  const std::size_t stride = base::align_up(channels, format::kTileCols);
  const auto* by_channel = reinterpret_cast<const float*>(container.bytes(tensor).data());
  Buffer<float> by_tap(taps * stride);
  for (std::size_t channel = 0; channel < channels; ++channel)
    for (std::size_t tap = 0; tap < taps; ++tap)
      by_tap[tap * stride + channel] = by_channel[channel * taps + tap];
  require_finite(by_tap.data(), taps * stride, container.path().string(), tensor.name);
  return by_tap;
}

Buffer<float> Model::Impl::beta_decay_rows(const format::GatedDeltaNet& net, std::uint64_t l) const {
  const std::size_t stride = base::align_up(shape.width, format::kTileCols);
  const std::size_t heads = net.value_heads;
  const std::size_t row_bytes = stride * sizeof(float);
  Buffer<float> rows(2 * heads * stride);
  if (net.inputs == format::DeltaInputs::separate) {
    std::memcpy(rows.data(), padded_rows(TensorRole::delta_beta, l).data(), heads * row_bytes);
    std::memcpy(&rows[heads * stride], padded_rows(TensorRole::delta_decay, l).data(), heads * row_bytes);
    return rows;
  }
  // By key head: beta of its value heads, then their decay.
  const Buffer<float> packed = padded_rows(TensorRole::delta_packed_beta_decay, l);
  const std::size_t group = net.value_heads / net.key_heads;
  for (std::size_t h = 0; h < heads; ++h) {
    const std::size_t beta = h / group * 2 * group + h % group;
    std::memcpy(&rows[h * stride], &packed[beta * stride], row_bytes);
    std::memcpy(&rows[(heads + h) * stride], &packed[(beta + group) * stride], row_bytes);
  }
  return rows;
}

std::optional<WeightMatrix> Model::Impl::open_head() const {
  if (embedding.floats != nullptr) return std::nullopt;
  return matrix(shape.tied_embeddings ? TensorRole::embedding : TensorRole::head);
}

LayerWeights Model::Impl::open_layer(std::uint64_t l) const {
  const LayerShape& layer = shape.layers[l];
  const format::Router router = layer.router.value_or(format::Router());
  const auto norm_if = [&](bool present, TensorRole role) {
    return present ? norm_weights(role, l) : Buffer<float>();
  };
  LayerWeights w{
      .mixer_norm = norm_weights(TensorRole::mixer_norm, l),
      .mixer = std::visit([&](const auto& mixer) { return open_mixer(mixer, l); }, layer.mixer),
      .ffn_norm = norm_weights(TensorRole::feed_forward_norm, l),
      .router = rows_if(layer.router.has_value(), TensorRole::router, l),
      .router_bias = rows_if(router.logit_bias, TensorRole::router_bias, l),
      .selection_bias = rows_if(router.selection_bias, TensorRole::router_selection_bias, l),
      .router_norm = router.own_input ? open_router_norm(l) : Buffer<float>(),
      .expert_scale = rows_if(router.own_input, TensorRole::router_expert_scale, l),
      .mixer_post_norm = norm_if(layer.post_norms, TensorRole::mixer_post_norm),
      .ffn_post_norm = norm_if(layer.post_norms, TensorRole::feed_forward_post_norm),
      .experts_norm = norm_if(layer.has_separate_norms(), TensorRole::experts_norm),
      .experts_post_norm = norm_if(layer.has_separate_norms(), TensorRole::experts_post_norm),
      .dense_post_norm = norm_if(layer.has_separate_norms(), TensorRole::dense_post_norm),
      .output_scale = layer.output_scale ? padded_rows(TensorRole::output_scale, l)[0] : 1,
      .shared = {},
      .dense = {},
      .experts = {},
      .mixer_input = {},
      .parts = {},
  };
  const std::vector<const WeightMatrix*> matrices = matrices_of(w.mixer);
  w.mixer_input = matrices.front()->matrix.layout.type;
  for (const WeightMatrix* weights : matrices) w.parts.push_back(weights->part);
  open_unrouted(l, w);
  w.experts = open_experts(l);
  return w;
}

void Model::Impl::open_unrouted(std::uint64_t l, LayerWeights& w) const {
  const auto open = [&](TensorRole gate, TensorRole up, TensorRole down) {
    const ExpertWeights weights{matrix(gate, l), matrix(up, l), matrix(down, l), {}};
    for (const WeightMatrix* part : {&weights.gate, &weights.up, &weights.down})
      w.parts.push_back(part->part);
    return weights;
  };
  if (const auto& shared = shape.layers[l].shared)
    w.shared = SharedWeights{open(TensorRole::shared_gate, TensorRole::shared_up, TensorRole::shared_down),
                             rows_if(shared->gate, TensorRole::shared_router, l)};
  if (shape.layers[l].dense_width > 0)
    w.dense = open(TensorRole::dense_gate, TensorRole::dense_up, TensorRole::dense_down);
}

// A norm without weights, then a factor for each input and one for all of them. Together they are the weights
// of a norm.
Buffer<float> Model::Impl::open_router_norm(std::uint64_t l) const {
  Buffer<float> weights = padded_rows(TensorRole::router_input_scale, l);
  const float factor = 1.0f / std::sqrt(static_cast<float>(shape.width));
  for (std::uint64_t i = 0; i < shape.width; ++i) weights[i] *= factor;
  return weights;
}

// Searches the tensors of the first two experts alone: those of the others lie in the same order behind them
// (format/model_tensors.h), with which the reader has compared the directory.
std::vector<ExpertWeights> Model::Impl::open_experts(std::uint64_t l) const {
  const LayerShape& layer = shape.layers[l];
  const bool routed = layer.router.has_value();
  const TensorRole gate = routed ? TensorRole::expert_gate : TensorRole::dense_gate;
  const TensorRole up = routed ? TensorRole::expert_up : TensorRole::dense_up;
  const TensorRole down = routed ? TensorRole::expert_down : TensorRole::dense_down;
  const std::array first{find(gate, l), find(up, l), find(down, l)};
  const std::size_t stride = layer.experts > 1 ? find(gate, l, 1) - first[0] : 0;
  const auto matrix_at = [&](std::size_t index) {
    WeightMatrix weights = matrix(index);
    if (layer.expert_biases)  // it stands behind its matrix
      weights.matrix.bias =
          reinterpret_cast<const float*>(container.bytes(container.tensors()[index + 1]).data());
    return weights;
  };
  std::vector<ExpertWeights> experts;
  experts.reserve(layer.experts);
  for (std::uint64_t e = 0; e < layer.experts; ++e) {
    // All tensors of an expert are proven together, so any of them names the part.
    const WeightMatrix of_gate = matrix_at(first[0] + e * stride);
    experts.push_back(
        {of_gate, matrix_at(first[1] + e * stride), matrix_at(first[2] + e * stride), of_gate.part});
  }
  return experts;
}

void Embedding::read(std::uint64_t token, std::uint64_t dim, float* out) const {
  if (rows != nullptr) {
    const std::uint16_t* const row = rows + token * dim;
    for (std::uint64_t i = 0; i < dim; ++i) out[i] = format::bf16_to_f32(row[i]);
    return;
  }
  if (floats != nullptr) {
    std::copy_n(floats + token * base::align_up(dim, format::kTileCols), dim, out);
    return;
  }
  const base::Bytes bytes(tiles->data, tiles->layout.total_bytes);
  for (std::uint64_t i = 0; i < dim; ++i) out[i] = format::weight_at(tiles->layout, bytes, token, i);
}

// Huge pages make a fault read megabytes and need fewer address translations, which pays where whole matrices
// are read. A token takes one row of the embedding, so a huge page would bring in what nobody reads.
void Model::Impl::ask_for_huge_pages() const {
  const base::Bytes all = container.bytes();
  if (shape.tied_embeddings) return base::advise_huge_pages(all);
  const base::Bytes rows = container.bytes(container.tensors()[find(TensorRole::embedding)]);
  const auto first = static_cast<std::size_t>(rows.data() - all.data());
  base::advise_huge_pages(all.first(first));
  base::advise_huge_pages(all.subspan(first + rows.size()));
}

// Verifies what the forward pass does not verify on first use: norms, routers and the keys of latent
// attention, which are small, always needed, and copied. Biases of experts are verified, and read, with their
// expert. With Verify::full it verifies everything.
void Model::Impl::prove_opened(unsigned thread_count) const {
  if (verify == Verify::off) return;
  std::vector<ProofPart> parts;
  for (std::size_t i = 0; i < container.tensors().size(); ++i) {
    const ProofPart part = proofs->part_of(i);
    const bool is_copied =
        container.tensors()[i].storage == format::Storage::f32_rows && !proofs->is_expert(part);
    const bool wanted = verify == Verify::full || is_copied;
    if (wanted && !proofs->proven(part)) parts.push_back(part);
  }
  for (std::uint64_t l = 0; verify != Verify::full && l < shape.layers.size(); ++l) {
    if (!std::holds_alternative<format::LatentAttention>(shape.layers[l].mixer)) continue;
    const ProofPart part = proofs->part_of(find(TensorRole::latent_key_value, l));
    if (!proofs->proven(part)) parts.push_back(part);
  }
  if (parts.empty()) return;
  base::WorkerPool pool(thread_count);
  // With `full` part by part: the leaves of one part take little memory, and what is proven stays proven when
  // a later part fails.
  if (verify != Verify::full) return proofs->prove(parts, pool);
  for (const ProofPart& part : parts) proofs->prove(std::span(&part, 1), pool);
}

std::size_t Model::Impl::find(TensorRole role, std::uint64_t layer, std::uint64_t expert) const {
  const auto* tensor = container.find(format::tensor_name(role, layer, expert));
  INVARIANT(tensor != nullptr);  // the reader has compared the directory with the description
  return static_cast<std::size_t>(tensor - container.tensors().data());
}

WeightMatrix Model::Impl::matrix(TensorRole role, std::uint64_t layer, std::uint64_t expert) const {
  return matrix(find(role, layer, expert));
}

WeightMatrix Model::Impl::matrix(std::size_t index) const {
  const auto& tensor = container.tensors()[index];
  return {{tensor.tile_layout(), container.bytes(tensor).data()}, proofs->part_of(index)};
}

// Norms and routers are copied, because kernels read padded rows and the container stores these tensors
// without padding.
Buffer<float> Model::Impl::padded_rows(TensorRole role, std::uint64_t layer) const {
  const auto& tensor = container.tensors()[find(role, layer)];
  const std::size_t rows = tensor.shape.size() == 2 ? tensor.shape[0] : 1;
  const std::size_t cols = tensor.shape.back();
  const std::size_t stride = base::align_up(cols, format::kTileCols);
  Buffer<float> padded(rows * stride);
  const std::byte* source = container.bytes(tensor).data();
  for (std::size_t row = 0; row < rows; ++row)
    std::memcpy(&padded[row * stride], source + row * cols * sizeof(float), cols * sizeof(float));
  require_finite(padded.data(), rows * stride, container.path().string(), tensor.name);
  return padded;
}

Buffer<float> Model::Impl::norm_weights(TensorRole role, std::uint64_t layer) const {
  Buffer<float> weights = padded_rows(role, layer);
  if (!shape.norm_weights_plus_one) return weights;
  const std::uint64_t count = container.tensors()[find(role, layer)].shape[0];  // the padding stays zero
  for (std::uint64_t i = 0; i < count; ++i) weights[i] += 1;
  return weights;
}

Buffer<float> Model::Impl::rows_if(bool present, TensorRole role, std::uint64_t layer) const {
  return present ? padded_rows(role, layer) : Buffer<float>();
}

void Model::Impl::prove(std::span<const ProofPart> parts, base::WorkerPool& pool) const {
  if (std::ranges::any_of(parts, [&](ProofPart part) { return unproven(part); })) proofs->prove(parts, pool);
}

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::~Model() = default;
Model::Model(Model&&) noexcept = default;

Model Model::open(const std::filesystem::path& path, const ModelOptions& options) {
  return Model(std::make_unique<Impl>(path, options));
}

std::optional<Verify> parse_verify(std::string_view text) {
  if (text == "off") return Verify::off;
  if (text == "first-use") return Verify::first_use;
  if (text == "full") return Verify::full;
  return std::nullopt;
}

const format::ModelDescription& Model::description() const { return impl_->container.description(); }
const text::Tokenizer& Model::tokenizer() const { return *impl_->tokenizer; }

text::ChatFormat Model::chat_format() const {
  return open_chat_format(impl_->container, format::tokenizer_parts(impl_->container), *impl_->tokenizer);
}

format::GenerationDefaults Model::generation_defaults() const {
  return format::parse_generation_defaults(
      format::read_section(impl_->container, format::kGenerationConfigSection),
      impl_->container.path().string() + ": " + std::string(format::kGenerationConfigSection));
}

std::string_view Model::quant() const {
  return format::to_string(impl_->layers.front().experts.front().gate.matrix.layout.type);
}

std::string Model::quantized_source() const {
  // The recipe is outside data without a fixed form; what has another form says nothing.
  const format::Json* types = impl_->container.recipe().find("source_types");
  std::string names;
  if (types == nullptr || !types->is_object()) return names;
  for (const auto& [name, count] : types->as_object("source_types")) {
    if (name != "F32" && name != "F16" && name != "BF16") names += (names.empty() ? "" : ", ") + name;
  }
  return names;
}

format::ProofStats Model::proof_stats() const { return impl_->proofs->stats(); }

std::uint64_t Model::decode_bytes_per_token() const {
  return runtime::decode_bytes_per_token(description(), impl_->container.tensors());
}

std::uint64_t Model::prefill_operations_per_token() const {
  return runtime::prefill_operations_per_token(description());
}

}  // namespace sluice::runtime
