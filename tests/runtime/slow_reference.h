#pragma once
// The forward pass once more, as plainly as possible and in double precision, straight from the definitions
// in format/model_description.h: no tiles, no batches, no cache, the C library's functions. What the runtime
// computes from a bf16 container must be close to it.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "format/model_description.h"
#include "format/model_tensors.h"
#include "format/tensor.h"
#include "tests/runtime/described_model.h"
#include "tests/support/tiny_release.h"

namespace sluice::tests {

inline ModelWeights weights_of(const std::vector<TinyTensor>& tensors) {
  ModelWeights weights;
  for (const TinyTensor& tensor : tensors)
    for (const std::uint16_t bits : tensor.bf16) weights[tensor.name].push_back(format::bf16_to_f32(bits));
  return weights;
}

class SlowReference {
 public:
  using Row = std::vector<double>;
  /// A token's experts in one layer, best first, with the factors of their results.
  using Experts = std::vector<std::pair<std::uint32_t, double>>;

  SlowReference(format::ModelDescription description, const ModelWeights& weights)
      : model_(std::move(description)) {
    for (const auto& [name, values] : weights) weights_[name].assign(values.begin(), values.end());
  }

  /// Logits [token][vocab].
  std::vector<Row> logits(std::span<const std::int32_t> ids) {
    std::vector<Row> x;
    for (const std::int32_t id : ids) {
      x.push_back(row_of("tok_embeddings.weight", static_cast<std::size_t>(id)));
      for (double& v : x.back()) v *= model_.embedding_scale;
    }
    for (std::size_t layer = 0; layer < model_.layer_count(); ++layer) {
      const format::LayerDescription& description = model_.layer(layer);
      const std::string name = "layers." + std::to_string(layer) + ".";
      const std::vector<Row> h = normed(x, name + "attention_norm.weight");
      auto result = mixed(description.mixer, name, h);
      if (description.post_norms) result = normed(result, name + "attention_post_norm.weight");
      add(x, result);
      auto fed = feed_forward(description, layer, x);
      if (description.post_norms) fed = normed(fed, name + "ffn_post_norm.weight");
      add(x, fed);
      if (description.output_scale)
        for (Row& row : x)
          for (double& v : row) v *= weights_.at(name + "output_scale")[0];
    }
    const std::string head = model_.tied_embeddings ? "tok_embeddings.weight" : "output.weight";
    std::vector<Row> result;
    for (const Row& row : normed(x, "norm.weight")) {
      result.push_back(product(head, row));
      for (double& v : result.back()) v *= model_.logits_scale;
      if (const auto cap = model_.final_soft_cap)
        for (double& v : result.back()) v = *cap * std::tanh(v / *cap);
    }
    return result;
  }

  /// The experts that logits() has chosen, by layer and token.
  [[nodiscard]] const std::map<std::pair<std::size_t, std::size_t>, Experts>& routing() const {
    return routing_;
  }
  /// The least difference between an expert that was chosen and one that was not, by what was compared.
  [[nodiscard]] double least_margin() const { return least_margin_; }

 private:
  Row row_of(const std::string& name, std::size_t index) {
    const Row& w = weights_.at(name);
    return {w.begin() + static_cast<std::ptrdiff_t>(index * model_.width),
            w.begin() + static_cast<std::ptrdiff_t>((index + 1) * model_.width)};
  }

  void add(std::vector<Row>& x, const std::vector<Row>& y) const {
    for (std::size_t t = 0; t < x.size(); ++t)
      for (std::size_t i = 0; i < x[t].size(); ++i) x[t][i] += model_.residual_scale * y[t][i];
  }

  Row product(const std::string& name, const Row& x) {
    const Row& w = weights_.at(name);
    Row y(w.size() / x.size());
    for (std::size_t n = 0; n < y.size(); ++n)
      y[n] =
          std::inner_product(x.begin(), x.end(), w.begin() + static_cast<std::ptrdiff_t>(n * x.size()), 0.0);
    return y;
  }

  void add_bias(Row& x, const std::string& name) {
    const Row& bias = weights_.at(name);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += bias[i];
  }

  /// RMSNorm of values [first, first + count).
  void norm(Row& x, std::size_t first, std::size_t count, const std::string& name) {
    norm(x, first, count, name, model_.norm.epsilon);
  }
  void norm(Row& x, std::size_t first, std::size_t count, const std::string& name, double epsilon) {
    const Row& w = weights_.at(name);
    double squares = 0;
    for (std::size_t i = 0; i < count; ++i) squares += x[first + i] * x[first + i];
    const double rms = std::sqrt(squares / static_cast<double>(count) + epsilon);
    const double offset = model_.norm.weights == format::NormWeights::plus_one ? 1 : 0;
    for (std::size_t i = 0; i < count; ++i) x[first + i] *= (w[i] + offset) / rms;
  }

  std::vector<Row> normed(std::vector<Row> x, const std::string& name) {
    for (Row& row : x) norm(row, 0, row.size(), name);
    return x;
  }

  static double frequency(const format::Rope& rope, std::size_t pair) {
    const auto dims = static_cast<double>(rope.rotary_dims);
    const double plain = std::pow(rope.base, -2 * static_cast<double>(pair) / dims);
    if (const auto* s = std::get_if<format::LinearScaling>(&rope.scaling)) return plain / s->factor;
    if (const auto* s = std::get_if<format::ProportionalScaling>(&rope.scaling))
      return pair < s->turned_dims / 2 ? plain : 0;
    if (const auto* s = std::get_if<format::Llama3Scaling>(&rope.scaling)) {
      const double wave = 2 * M_PI / plain;
      const auto context = static_cast<double>(s->original_context_tokens);
      if (wave > context / s->low_frequency_factor) return plain / s->factor;
      if (wave < context / s->high_frequency_factor) return plain;
      const double part =
          (context / wave - s->low_frequency_factor) / (s->high_frequency_factor - s->low_frequency_factor);
      return plain * ((1 - part) / s->factor + part);
    }
    if (const auto* s = std::get_if<format::YarnScaling>(&rope.scaling)) {
      const auto at = [&](double rotations) {
        return dims * std::log(static_cast<double>(s->original_context_tokens) / (rotations * 2 * M_PI)) /
               (2 * std::log(rope.base));
      };
      double low = at(s->beta_fast);
      double high = at(s->beta_slow);
      if (s->round_ramp) {
        low = std::floor(low);
        high = std::ceil(high);
      }
      low = std::max(low, 0.0);
      high = std::min(high, dims - 1);
      if (low == high) high += 0.001;
      const double ramp = std::clamp((static_cast<double>(pair) - low) / (high - low), 0.0, 1.0);
      return (1 - ramp) * plain + ramp * plain / s->factor;
    }
    return plain;
  }

  static void rotate(const format::Rope& rope, Row& x, std::size_t first, std::size_t position) {
    const auto* yarn = std::get_if<format::YarnScaling>(&rope.scaling);
    const double factor = yarn != nullptr ? yarn->cos_sin_factor : 1;
    for (std::size_t pair = 0; pair < rope.rotary_dims / 2; ++pair) {
      const double angle = static_cast<double>(position) * frequency(rope, pair);
      const bool interleaved = rope.style == format::RopeStyle::interleaved;
      double& a = x[first + (interleaved ? 2 * pair : pair)];
      double& b = x[first + (interleaved ? 2 * pair + 1 : pair + rope.rotary_dims / 2)];
      const double turned = (a * std::cos(angle) - b * std::sin(angle)) * factor;
      b = (a * std::sin(angle) + b * std::cos(angle)) * factor;
      a = turned;
    }
  }

  /// A projection with its bias.
  Row projected(const format::GroupedQueryAttention& a, const std::string& matrix, const Row& x) {
    Row y = product(matrix + ".weight", x);
    if (a.input_biases) add_bias(y, matrix + ".bias");
    return y;
  }

  static void clip(const format::GroupedQueryAttention& a, Row& y) {
    if (a.clip)
      for (double& v : y) v = std::clamp(v, -*a.clip, *a.clip);
  }

  /// Queries or keys from their projection to what scores are computed from.
  Row heads_of(const format::GroupedQueryAttention& a, Row y, const std::string& norm_name,
               std::size_t position) {
    if (a.query_key_norm == format::QueryKeyNorm::full_width)
      norm(y, 0, y.size(), norm_name, model_.norm.epsilon);
    clip(a, y);
    for (std::size_t first = 0; first < y.size(); first += a.head_dim) {
      if (a.query_key_norm == format::QueryKeyNorm::per_head)
        norm(y, first, a.head_dim, norm_name, model_.norm.epsilon);
      if (a.rope) rotate(*a.rope, y, first, position);
    }
    return y;
  }

  std::vector<Row> mixed(const format::Mixer& mixer, const std::string& layer, const std::vector<Row>& h) {
    if (const auto* a = std::get_if<format::GroupedQueryAttention>(&mixer))
      return attention(*a, layer + "attention.", h);
    if (const auto* latent = std::get_if<format::LatentAttention>(&mixer))
      return latent_attention(*latent, layer + "attention.", h);
    if (const auto* net = std::get_if<format::GatedDeltaNet>(&mixer))
      return delta_net(*net, layer + "delta.", h);
    return short_convolution(std::get<format::ShortConvolution>(mixer), layer + "conv.", h);
  }

  /// Each token's sum over itself and the tokens before it, channel by channel; the last weight of a channel
  /// is that of the token itself.
  std::vector<Row> convolution(const std::vector<Row>& x, std::uint64_t taps, const std::string& name) {
    const Row& w = weights_.at(name);
    std::vector<Row> out;
    for (std::size_t t = 0; t < x.size(); ++t) {
      Row y(x[t].size());
      for (std::size_t back = 0; back < taps && back <= t; ++back)
        for (std::size_t c = 0; c < y.size(); ++c) y[c] += w[(c + 1) * taps - 1 - back] * x[t - back][c];
      out.push_back(y);
    }
    return out;
  }

  std::vector<Row> short_convolution(const format::ShortConvolution& mixer, const std::string& name,
                                     const std::vector<Row>& h) {
    const std::size_t width = model_.width;
    std::vector<Row> gates, gated;
    for (const Row& x : h) {
      const Row all = product(name + "wi.weight", x);
      Row values(width);
      for (std::size_t i = 0; i < width; ++i) values[i] = all[i] * all[2 * width + i];
      gates.emplace_back(all.begin() + static_cast<std::ptrdiff_t>(width),
                         all.begin() + static_cast<std::ptrdiff_t>(2 * width));
      gated.push_back(values);
    }
    std::vector<Row> out = convolution(gated, mixer.convolution_tokens, name + "conv.weight");
    for (std::size_t t = 0; t < out.size(); ++t) {
      for (std::size_t i = 0; i < width; ++i) out[t][i] *= gates[t][i];
      out[t] = product(name + "wo.weight", out[t]);
    }
    return out;
  }

  /// A token's inputs of a delta net, whatever their order in the matrices.
  struct DeltaInput {
    Row q, k, v;  ///< of all heads, as the convolution has them
    Row z, b, a;
  };

  DeltaInput delta_input(const format::GatedDeltaNet& net, const std::string& name, const Row& x) {
    const bool packed = net.inputs == format::DeltaInputs::packed;
    Row all = product(name + (packed ? "wqkvz.weight" : "wqkv.weight"), x);
    Row decays = packed ? product(name + "wba.weight", x) : product(name + "wb.weight", x);
    const auto append = [](Row& from, std::size_t count, Row& to) {
      to.insert(to.end(), from.begin(), from.begin() + static_cast<std::ptrdiff_t>(count));
      from.erase(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(count));
    };
    DeltaInput in;
    if (!packed) {
      append(all, net.key_heads * net.key_dim, in.q);
      append(all, net.key_heads * net.key_dim, in.k);
      in.v = all;
      in.z = product(name + "wz.weight", x);
      in.b = decays;
      in.a = product(name + "wa.weight", x);
      return in;
    }
    const std::size_t group = net.value_heads / net.key_heads;
    for (std::size_t head = 0; head < net.key_heads; ++head) {
      append(all, net.key_dim, in.q);
      append(all, net.key_dim, in.k);
      append(all, group * net.value_dim, in.v);
      append(all, group * net.value_dim, in.z);
      append(decays, group, in.b);
      append(decays, group, in.a);
    }
    return in;
  }

  static Row unit_head(const Row& x, std::size_t first, std::size_t count) {
    Row head(x.begin() + static_cast<std::ptrdiff_t>(first),
             x.begin() + static_cast<std::ptrdiff_t>(first + count));
    const double squares = std::inner_product(head.begin(), head.end(), head.begin(), 1e-6);
    for (double& v : head) v /= std::sqrt(squares);
    return head;
  }

  /// The definition: S fades, takes in how far it is from answering k with v, and answers q.
  static Row delta_step(std::vector<Row>& state, const Row& q, const Row& k, std::span<const double> v,
                        double decay, double beta) {
    for (Row& row : state)
      for (double& s : row) s *= decay;
    Row out(v.size());
    for (std::size_t c = 0; c < v.size(); ++c) {
      double error = v[c];
      for (std::size_t i = 0; i < k.size(); ++i) error -= state[i][c] * k[i];
      for (std::size_t i = 0; i < k.size(); ++i) state[i][c] += k[i] * beta * error;
      for (std::size_t i = 0; i < k.size(); ++i) out[c] += state[i][c] * q[i];
    }
    return out;
  }

  std::vector<Row> delta_net(const format::GatedDeltaNet& net, const std::string& name,
                             const std::vector<Row>& h) {
    std::vector<DeltaInput> inputs;
    std::vector<Row> channels;
    for (const Row& x : h) {
      inputs.push_back(delta_input(net, name, x));
      Row& row = channels.emplace_back(inputs.back().q);
      for (const Row* part : {&inputs.back().k, &inputs.back().v})
        row.insert(row.end(), part->begin(), part->end());
    }
    channels = convolution(channels, net.convolution_tokens, name + "conv.weight");
    const std::size_t key_rows = net.key_heads * net.key_dim;
    const std::size_t group = net.value_heads / net.key_heads;
    std::vector<std::vector<Row>> states(net.value_heads, std::vector<Row>(net.key_dim, Row(net.value_dim)));
    std::vector<Row> out;
    for (std::size_t t = 0; t < h.size(); ++t) {
      for (double& x : channels[t]) x *= sigmoid(x);
      Row result;
      for (std::size_t head = 0; head < net.value_heads; ++head) {
        Row q = unit_head(channels[t], head / group * net.key_dim, net.key_dim);
        for (double& x : q) x /= std::sqrt(static_cast<double>(net.key_dim));
        const Row k = unit_head(channels[t], key_rows + head / group * net.key_dim, net.key_dim);
        const std::span v(&channels[t][2 * key_rows + head * net.value_dim], net.value_dim);
        const double softplus = std::log1p(std::exp(inputs[t].a[head] + weights_.at(name + "dt_bias")[head]));
        const double decay = std::exp(-std::exp(weights_.at(name + "a_log")[head]) * softplus);
        Row y = delta_step(states[head], q, k, v, decay, sigmoid(inputs[t].b[head]));
        const double squares = std::inner_product(y.begin(), y.end(), y.begin(), 0.0);
        const double rms = std::sqrt(squares / static_cast<double>(y.size()) + model_.norm.epsilon);
        for (std::size_t c = 0; c < y.size(); ++c) {
          const double z = inputs[t].z[head * net.value_dim + c];
          result.push_back(y[c] / rms * weights_.at(name + "norm.weight")[c] * z * sigmoid(z));
        }
      }
      out.push_back(product(name + "wo.weight", result));
    }
    return out;
  }

  Row values_of(const format::GroupedQueryAttention& a, Row y) {
    clip(a, y);
    for (std::size_t first = 0; a.value_norm && first < y.size(); first += a.head_dim) {
      double squares = 0;
      for (std::size_t i = 0; i < a.head_dim; ++i) squares += y[first + i] * y[first + i];
      const double rms = std::sqrt(squares / static_cast<double>(a.head_dim) + model_.norm.epsilon);
      for (std::size_t i = 0; i < a.head_dim; ++i) y[first + i] /= rms;
    }
    return y;
  }

  /// Queries of all heads, and the gates of their results, which the query matrix makes head by head.
  static std::pair<Row, Row> split(const format::GroupedQueryAttention& a, const Row& made) {
    if (!a.output_gate) return {made, {}};
    Row queries, gates;
    for (std::size_t first = 0; first < made.size(); first += 2 * a.head_dim) {
      for (std::size_t i = 0; i < a.head_dim; ++i) {
        queries.push_back(made[first + i]);
        gates.push_back(made[first + a.head_dim + i]);
      }
    }
    return {queries, gates};
  }

  std::vector<Row> attention(const format::GroupedQueryAttention& a, const std::string& name,
                             const std::vector<Row>& h) {
    std::vector<Row> keys;
    std::vector<Row> values;
    std::vector<Row> out;
    const std::size_t d = a.head_dim;
    const double scale = a.scale.value_or(1 / std::sqrt(static_cast<double>(d)));
    for (std::size_t t = 0; t < h.size(); ++t) {
      const auto [made, gates] = split(a, projected(a, name + "wq", h[t]));
      const Row q = heads_of(a, made, name + "q_norm.weight", t);
      const Row key = projected(a, name + "wk", h[t]);
      keys.push_back(heads_of(a, key, name + "k_norm.weight", t));
      values.push_back(values_of(a, a.keys_are_values ? key : projected(a, name + "wv", h[t])));
      Row mixed(q.size());
      for (std::size_t head = 0; head < a.heads; ++head) {
        const std::size_t kv = head / (a.heads / a.key_heads) * d;
        const std::size_t window = a.window_tokens.value_or(t + 1);
        const std::size_t first = t + 1 > window ? t + 1 - window : 0;
        Row score;
        for (std::size_t s = first; s <= t; ++s) {
          double dot = 0;
          for (std::size_t i = 0; i < d; ++i) dot += q[head * d + i] * keys[s][kv + i];
          score.push_back(dot * scale * temperature(a.query_temperature, t));
          if (a.soft_cap) score.back() = *a.soft_cap * std::tanh(score.back() / *a.soft_cap);
        }
        // A sink is one more score, without a value.
        if (a.sinks) score.push_back(weights_.at(name + "sinks")[head]);
        softmax(score);
        for (std::size_t s = first; s <= t; ++s)
          for (std::size_t i = 0; i < d; ++i) mixed[head * d + i] += score[s - first] * values[s][kv + i];
      }
      for (std::size_t i = 0; i < gates.size(); ++i) mixed[i] *= sigmoid(gates[i]);
      out.push_back(product(name + "wo.weight", mixed));
      if (a.output_bias) add_bias(out.back(), name + "wo.bias");
    }
    return out;
  }

  static double temperature(const std::optional<format::QueryTemperature>& t, std::size_t position) {
    if (!t) return 1;
    return 1 + t->beta * std::log(1 + std::floor(static_cast<double>(position) /
                                                 static_cast<double>(t->original_context_tokens)));
  }

  /// Keys and values of each head are made from the latent, as the definition has it and the runtime does
  /// not.
  std::vector<Row> latent_attention(const format::LatentAttention& a, const std::string& name,
                                    const std::vector<Row>& h) {
    const std::size_t plain = a.plain_dims;
    const std::size_t rotary = a.rope.rotary_dims;
    const std::size_t head_rows = plain + a.value_dims;
    const double epsilon = a.latent_norm_epsilon.value_or(model_.norm.epsilon);
    const double scale = a.scale.value_or(1 / std::sqrt(static_cast<double>(plain + rotary)));
    std::vector<Row> rotary_keys;
    std::vector<Row> expanded;  // [token] plain key and value, head by head
    std::vector<Row> out;
    for (std::size_t t = 0; t < h.size(); ++t) {
      Row q = a.query_rank ? product(name + "wq_a.weight", h[t]) : product(name + "wq.weight", h[t]);
      if (a.query_rank) {
        norm(q, 0, q.size(), name + "q_a_norm.weight", epsilon);
        q = product(name + "wq_b.weight", q);
      }
      Row latent = product(name + "wkv_a_with_mqa.weight", h[t]);
      rotary_keys.emplace_back(latent.begin() + static_cast<std::ptrdiff_t>(a.latent_rank), latent.end());
      rotate(a.rope, rotary_keys.back(), 0, t);
      latent.resize(a.latent_rank);
      norm(latent, 0, latent.size(), name + "kv_a_norm.weight", epsilon);
      expanded.push_back(product(name + "wkv_b.weight", latent));
      Row mixed(a.heads * a.value_dims);
      for (std::size_t head = 0; head < a.heads; ++head) {
        const std::size_t query = head * (plain + rotary);
        rotate(a.rope, q, query + plain, t);
        Row score;
        for (std::size_t s = 0; s <= t; ++s) {
          double dot = 0;
          for (std::size_t i = 0; i < plain; ++i) dot += q[query + i] * expanded[s][head * head_rows + i];
          for (std::size_t i = 0; i < rotary; ++i) dot += q[query + plain + i] * rotary_keys[s][i];
          score.push_back(dot * scale * temperature(a.query_temperature, t));
        }
        softmax(score);
        for (std::size_t s = 0; s <= t; ++s)
          for (std::size_t i = 0; i < a.value_dims; ++i)
            mixed[head * a.value_dims + i] += score[s] * expanded[s][head * head_rows + plain + i];
      }
      out.push_back(product(name + "wo.weight", mixed));
    }
    return out;
  }

  static void softmax(Row& x) {
    const double most = *std::ranges::max_element(x);
    double sum = 0;
    for (double& v : x) sum += v = std::exp(v - most);
    for (double& v : x) v /= sum;
  }

  static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

  [[nodiscard]] double activation(double gate, double up) const {
    if (std::holds_alternative<format::GeluTanh>(model_.activation))
      return gate / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (gate + 0.044715 * std::pow(gate, 3)))) * up;
    if (const auto* clamped = std::get_if<format::ClampedSwiglu>(&model_.activation)) {
      gate = std::min(gate, clamped->limit);
      return (std::clamp(up, -clamped->limit, clamped->limit) + 1) * gate * sigmoid(clamped->alpha * gate);
    }
    return gate * sigmoid(gate) * up;
  }

  /// down(activation(gate x, up x)), each matrix with its bias or without one.
  Row gated(const std::string& name, const Row& x, bool biases = false) {
    const auto part = [&](const std::string& matrix, const Row& input) {
      Row y = product(name + matrix + ".weight", input);
      if (biases) add_bias(y, name + matrix + ".bias");
      return y;
    };
    Row hidden = part("w1", x);
    const Row up = part("w3", x);
    for (std::size_t j = 0; j < hidden.size(); ++j) hidden[j] = activation(hidden[j], up[j]);
    return part("w2", hidden);
  }

  /// Groups of experts that may be chosen, as flags of experts.
  static std::vector<bool> open_experts(const format::Router& router, const Row& rank) {
    std::vector<bool> open(rank.size(), true);
    if (!router.groups) return open;
    const std::size_t width = rank.size() / router.groups->groups;
    std::vector<std::pair<double, std::size_t>> groups;
    for (std::size_t g = 0; g < router.groups->groups; ++g) {
      Row of_group(rank.begin() + static_cast<std::ptrdiff_t>(g * width),
                   rank.begin() + static_cast<std::ptrdiff_t>((g + 1) * width));
      std::ranges::sort(of_group, std::greater());
      const bool two = router.groups->score == format::GroupScore::best_two;
      groups.emplace_back(of_group[0] + (two ? of_group[1] : 0), g);
    }
    std::ranges::stable_sort(groups, [](const auto& a, const auto& b) { return a.first > b.first; });
    for (std::size_t i = router.groups->kept; i < groups.size(); ++i)
      std::fill_n(open.begin() + static_cast<std::ptrdiff_t>(groups[i].second * width), width, false);
    return open;
  }

  /// The router's own form of a token's residual stream: a norm without weights, times a factor an input.
  Row router_input(const std::string& name, Row x) {
    double squares = 0;
    for (const double v : x) squares += v * v;
    const auto count = static_cast<double>(x.size());
    const double rms = std::sqrt(squares / count + model_.norm.epsilon);
    const Row& scale = weights_.at(name + "gate.input_scale");
    for (std::size_t i = 0; i < x.size(); ++i) x[i] *= scale[i] / (rms * std::sqrt(count));
    return x;
  }

  /// `x` is what the experts read, `residual` what their norm reads.
  Experts choose(const format::Mixture& mixture, const std::string& name, const Row& x, const Row& residual) {
    const format::Router& router = mixture.router;
    Row score = product(name + "gate.weight", router.own_input ? router_input(name, residual) : x);
    if (router.logit_bias) add_bias(score, name + "gate.bias");
    if (router.score == format::RouterScore::softmax) softmax(score);
    if (router.score == format::RouterScore::sigmoid) std::ranges::transform(score, score.begin(), sigmoid);
    Row rank = score;
    if (router.selection_bias) add_bias(rank, name + "gate.selection_bias");
    const std::vector<bool> open = open_experts(router, rank);
    std::vector<std::uint32_t> order;
    for (std::uint32_t e = 0; e < rank.size(); ++e)
      if (open[e]) order.push_back(e);
    std::ranges::stable_sort(order, [&](std::uint32_t a, std::uint32_t b) { return rank[a] > rank[b]; });
    if (mixture.experts_per_token < order.size())
      least_margin_ = std::min(
          least_margin_, rank[order[mixture.experts_per_token - 1]] - rank[order[mixture.experts_per_token]]);
    order.resize(mixture.experts_per_token);
    double sum = router.renormalise_epsilon;
    for (const std::uint32_t e : order) sum += score[e];
    Experts experts;
    for (const std::uint32_t e : order)
      experts.emplace_back(e, score[e] / (router.renormalise ? sum : 1) * router.scale *
                                  (router.own_input ? weights_.at(name + "gate.expert_scale")[e] : 1));
    return experts;
  }

  Row mixture(const format::Mixture& description, std::size_t layer, std::size_t token, const Row& x,
              const Row& residual) {
    const std::string name = "layers." + std::to_string(layer) + ".feed_forward.";
    Row sum(x.size());
    const auto add_weighted = [&](const Row& y, double weight) {
      for (std::size_t j = 0; j < sum.size(); ++j) sum[j] += weight * y[j];
    };
    const Experts experts = choose(description, name, x, residual);
    for (const auto& [e, weight] : experts)
      add_weighted(gated(name + "experts." + std::to_string(e) + ".", x, description.expert_biases), weight);
    if (const auto& shared = description.shared)
      add_weighted(gated(name + "shared.", x),
                   shared->gate ? sigmoid(product(name + "shared_gate.weight", x)[0]) : 1);
    routing_[{layer, token}] = experts;
    return sum;
  }

  /// `x` is the residual stream.
  std::vector<Row> feed_forward(const format::LayerDescription& description, std::size_t layer,
                                const std::vector<Row>& x) {
    const std::string name = "layers." + std::to_string(layer) + ".";
    const auto& [dense, experts] = description.feed_forward;
    const bool separate = description.post_norms && dense && experts;
    const std::vector<Row> in = normed(x, name + "ffn_norm.weight");
    const std::vector<Row> experts_in = separate ? normed(x, name + "feed_forward.experts_norm.weight") : in;
    std::vector<Row> out(x.size(), Row(model_.width));
    for (std::size_t t = 0; t < x.size(); ++t) {
      Row& sum = out[t];
      const auto add_part = [&](Row part, const char* norm_name) {
        if (separate) norm(part, 0, part.size(), name + "feed_forward." + norm_name + ".weight");
        for (std::size_t i = 0; i < part.size(); ++i) sum[i] += part[i];
      };
      if (dense) add_part(gated(name + "feed_forward.", in[t]), "dense_post_norm");
      if (experts) add_part(mixture(*experts, layer, t, experts_in[t], x[t]), "experts_post_norm");
    }
    return out;
  }

  format::ModelDescription model_;
  std::map<std::string, Row> weights_;
  std::map<std::pair<std::size_t, std::size_t>, Experts> routing_;
  double least_margin_ = 1;
};

}  // namespace sluice::tests
