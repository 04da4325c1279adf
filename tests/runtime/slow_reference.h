#pragma once
// The forward pass once more, as plainly as possible and in double precision, on a release's own tensors: no
// tiles, no batches, no cache. What the runtime computes from a bf16 container must be close to it.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "format/mistral_params.h"
#include "format/tensor.h"
#include "tests/support/tiny_release.h"

namespace sluice::tests {

class SlowReference {
 public:
  SlowReference(const format::MistralParams& params, const std::vector<TinyTensor>& tensors) : p_(params) {
    for (const TinyTensor& tensor : tensors) {
      auto& values = weights_[tensor.name];
      for (const std::uint16_t bits : tensor.bf16)
        values.push_back(static_cast<double>(format::bf16_to_f32(bits)));
    }
  }

  using Row = std::vector<double>;

  /// Logits [token][vocab].
  std::vector<Row> logits(std::span<const std::int32_t> ids) {
    std::vector<Row> x;
    for (const std::int32_t id : ids)
      x.push_back(row_of("tok_embeddings.weight", static_cast<std::size_t>(id)));
    for (std::size_t layer = 0; layer < p_.n_layers; ++layer) {
      const std::string name = "layers." + std::to_string(layer) + ".";
      add(x, attention(name + "attention.", normed(x, name + "attention_norm.weight")));
      add(x, mixture(name + "feed_forward.", normed(x, name + "ffn_norm.weight")));
    }
    std::vector<Row> result;
    for (const Row& row : normed(x, "norm.weight")) result.push_back(product("output.weight", row));
    return result;
  }

 private:
  Row row_of(const std::string& name, std::size_t index) {
    const Row& w = weights_.at(name);
    return {w.begin() + static_cast<std::ptrdiff_t>(index * p_.dim),
            w.begin() + static_cast<std::ptrdiff_t>((index + 1) * p_.dim)};
  }

  static void add(std::vector<Row>& x, const std::vector<Row>& y) {
    for (std::size_t t = 0; t < x.size(); ++t)
      for (std::size_t i = 0; i < x[t].size(); ++i) x[t][i] += y[t][i];
  }

  Row product(const std::string& name, const Row& x) {
    const Row& w = weights_.at(name);
    Row y(w.size() / x.size());
    for (std::size_t n = 0; n < y.size(); ++n)
      y[n] =
          std::inner_product(x.begin(), x.end(), w.begin() + static_cast<std::ptrdiff_t>(n * x.size()), 0.0);
    return y;
  }

  std::vector<Row> normed(const std::vector<Row>& x, const std::string& name) {
    const Row& w = weights_.at(name);
    std::vector<Row> y = x;
    for (Row& row : y) {
      const double mean =
          std::inner_product(row.begin(), row.end(), row.begin(), 0.0) / static_cast<double>(row.size());
      for (std::size_t i = 0; i < row.size(); ++i) row[i] *= w[i] / std::sqrt(mean + p_.norm_eps);
    }
    return y;
  }

  void rotate(Row& heads, std::size_t position) const {
    const std::size_t d = p_.head_dim;
    for (std::size_t i = 0; i < heads.size(); i += 2) {
      const double exponent = static_cast<double>(i % d) / static_cast<double>(d);
      const double angle = static_cast<double>(position) * std::pow(p_.rope_theta, -exponent);
      const double a = heads[i];
      const double b = heads[i + 1];
      heads[i] = a * std::cos(angle) - b * std::sin(angle);
      heads[i + 1] = a * std::sin(angle) + b * std::cos(angle);
    }
  }

  std::vector<Row> attention(const std::string& name, const std::vector<Row>& h) {
    std::vector<Row> keys;
    std::vector<Row> values;
    std::vector<Row> out;
    const std::size_t d = p_.head_dim;
    for (std::size_t t = 0; t < h.size(); ++t) {
      Row q = product(name + "wq.weight", h[t]);
      keys.push_back(product(name + "wk.weight", h[t]));
      values.push_back(product(name + "wv.weight", h[t]));
      rotate(q, t);
      rotate(keys.back(), t);
      Row mixed(q.size());
      for (std::size_t head = 0; head < p_.n_heads; ++head) {
        const std::size_t kv = head / (p_.n_heads / p_.n_kv_heads) * d;
        const std::size_t window = p_.sliding_window.value_or(t + 1);
        const std::size_t first = t + 1 > window ? t + 1 - window : 0;
        Row score;
        for (std::size_t s = first; s <= t; ++s) {
          double dot = 0;
          for (std::size_t i = 0; i < d; ++i) dot += q[head * d + i] * keys[s][kv + i];
          score.push_back(dot / std::sqrt(static_cast<double>(d)));
        }
        softmax(score);
        for (std::size_t s = first; s <= t; ++s)
          for (std::size_t i = 0; i < d; ++i) mixed[head * d + i] += score[s - first] * values[s][kv + i];
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

  std::vector<Row> mixture(const std::string& name, const std::vector<Row>& h) {
    std::vector<Row> out;
    for (const Row& x : h) {
      const bool dense = p_.num_experts == 0;
      std::vector<std::size_t> order(dense ? 1 : p_.num_experts);
      std::iota(order.begin(), order.end(), std::size_t{0});
      Row weight{1.0};
      if (!dense) {
        const Row gate = product(name + "gate.weight", x);
        std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return gate[a] > gate[b]; });
        weight.clear();
        for (std::size_t i = 0; i < p_.num_experts_per_tok; ++i) weight.push_back(gate[order[i]]);
        softmax(weight);
      }
      Row sum(p_.dim);
      for (std::size_t i = 0; i < weight.size(); ++i) {
        const std::string expert = dense ? name : name + "experts." + std::to_string(order[i]) + ".";
        Row hidden = product(expert + "w1.weight", x);
        const Row up = product(expert + "w3.weight", x);
        for (std::size_t j = 0; j < hidden.size(); ++j) hidden[j] *= up[j] / (1 + std::exp(-hidden[j]));
        const Row y = product(expert + "w2.weight", hidden);
        for (std::size_t j = 0; j < sum.size(); ++j) sum[j] += weight[i] * y[j];
      }
      out.push_back(sum);
    }
    return out;
  }

  format::MistralParams p_;
  std::map<std::string, Row> weights_;
};

}  // namespace sluice::tests
