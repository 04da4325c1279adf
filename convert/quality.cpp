// Sums rounding errors by kind of tensor, by matrix and by expert. Errors are sums of squares until the very
// end, so that sums over tensors of different sizes weigh every weight alike.

#include "convert/quality.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "base/invariant.h"

namespace sluice::convert {
namespace {

using format::Json;
using format::QuantizationClass;
using format::TensorRole;

constexpr std::size_t kWorstExperts = 5;

double relative(const QuantError& error) {
  return error.squared_weights > 0 ? std::sqrt(error.squared_error / error.squared_weights) : 0;
}

/// Six decimals are enough for an error, and keep the directory short.
double rounded(double value) { return std::round(value * 1e6) / 1e6; }

/// Bits per weight, without padding.
double bits_of(const format::ModelTensor& tensor, format::Storage storage) {
  if (format::is_tiled(storage))
    return format::bits_per_weight(format::tile_type(storage), tensor.shape[0], tensor.shape[1]);
  return storage == format::Storage::f32_rows ? 32 : 16;
}

std::string small_kind(TensorRole role) {
  switch (role) {
    case TensorRole::router: return "routers";
    case TensorRole::final_norm:
    case TensorRole::mixer_norm:
    case TensorRole::mixer_post_norm:
    case TensorRole::feed_forward_norm:
    case TensorRole::feed_forward_post_norm:
    case TensorRole::experts_norm:
    case TensorRole::experts_post_norm:
    case TensorRole::dense_post_norm: return "norms";
    default: return "biases and others";
  }
}

std::string kind_of(const format::ModelTensor& tensor) {
  const std::string label(format::matrix_label(tensor.role));
  switch (tensor.quantization) {
    case QuantizationClass::embedding: return "embedding";
    case QuantizationClass::unquantized: return small_kind(tensor.role);
    case QuantizationClass::head: return "head";
    case QuantizationClass::attention: return "attention " + label;
    case QuantizationClass::feed_forward: return "experts " + label;
  }
  INVARIANT(!"a class without name");
}

}  // namespace

Json to_json(const QualityReport& report) {
  Json tensors = Json::object();
  for (const auto& tensor : report.tensors) tensors.set(tensor.name, rounded(tensor.relative_error));
  Json worst = Json::array();
  for (const auto& expert : report.worst_experts)
    worst.push_back(Json::object({{"layer", expert.layer},
                                  {"expert", expert.expert},
                                  {"relative_error", rounded(expert.relative_error)}}));
  Json kinds = Json::array();
  for (const auto& kind : report.kinds)
    kinds.push_back(Json::object({{"name", kind.name},
                                  {"type", kind.type},
                                  {"bits_per_weight", rounded(kind.bits_per_weight)},
                                  {"relative_error", rounded(kind.relative_error)}}));
  return Json::object(
      {{"kinds", std::move(kinds)}, {"tensors", std::move(tensors)}, {"worst_experts", std::move(worst)}});
}

void QualityTally::add(const format::ModelTensor& tensor, format::Storage storage, const QuantError& error) {
  entries_.push_back({tensor, storage, error});
}

QualityReport QualityTally::report() const {
  QualityReport report;
  std::vector<std::pair<QualityReport::Kind, QuantError>> kinds;  // in order of first appearance
  std::map<std::pair<std::uint64_t, std::uint64_t>, QuantError> experts;
  for (const Entry& entry : entries_) {
    const std::string name = kind_of(entry.tensor);
    const std::string type(format::type_name(entry.storage));
    // Some tensors of a kind may be kept as they were released, while the others are rounded.
    auto kind = std::ranges::find_if(
        kinds, [&](const auto& k) { return k.first.name == name && k.first.type == type; });
    // All tensors of a kind have the same shape, so the first one's bits per weight are right for all.
    if (kind == kinds.end())
      kind = kinds.insert(kinds.end(), {{name, type, bits_of(entry.tensor, entry.storage), 0}, {}});
    kind->second += entry.error;
    // Only matrices in tiles are rounded by a choice of the recipe, so only they are listed one by one.
    if (format::is_tiled(entry.storage)) report.tensors.push_back({entry.tensor.name, relative(entry.error)});
    if (entry.tensor.expert) experts[{entry.tensor.layer, *entry.tensor.expert}] += entry.error;
  }
  for (auto& [kind, error] : kinds) {
    kind.relative_error = relative(error);
    report.kinds.push_back(std::move(kind));
  }
  for (const auto& [at, error] : experts)
    report.worst_experts.push_back({at.first, at.second, relative(error)});
  // Stable, so that equal errors keep the order of layers and the recipe has one text.
  std::ranges::stable_sort(report.worst_experts, std::greater<>(), &QualityReport::Expert::relative_error);
  report.worst_experts.resize(std::min(report.worst_experts.size(), kWorstExperts));
  return report;
}

}  // namespace sluice::convert
