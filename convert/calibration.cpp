#include "convert/calibration.h"

#include <numeric>
#include <string>

#include "base/error.h"
#include "base/invariant.h"

namespace sluice::convert {
namespace {

using format::InputMoments;
using format::LayerStatistics;
using MomentsMember = InputMoments format::ExpertStatistics::*;

void add_scaled(const InputMoments& from, double factor, InputMoments& to) {
  for (std::size_t i = 0; i < to.sums.size(); ++i)
    to.sums[i] =
        static_cast<float>(static_cast<double>(to.sums[i]) + factor * static_cast<double>(from.sums[i]));
}

InputMoments layer_total(const LayerStatistics& statistics, MomentsMember member) {
  InputMoments total(((statistics.experts.front()).*member).inputs);
  for (const auto& expert : statistics.experts) add_scaled(expert.*member, 1, total);
  return total;
}

}  // namespace

std::vector<std::uint64_t> fill_under_calibrated(LayerStatistics& statistics) {
  std::vector<std::uint64_t> found;
  std::uint64_t tokens = 0;
  for (std::uint64_t e = 0; e < statistics.experts.size(); ++e) {
    tokens += statistics.experts[e].tokens;
    if (statistics.experts[e].tokens < kExpertTokensMin) found.push_back(e);
  }
  if (found.empty()) return found;
  INVARIANT(tokens > 0);
  for (const MomentsMember member : {&format::ExpertStatistics::up, &format::ExpertStatistics::down}) {
    const InputMoments total = layer_total(statistics, member);
    for (const std::uint64_t e : found) {
      const auto missing = static_cast<double>(kExpertTokensMin - statistics.experts[e].tokens);
      add_scaled(total, missing / static_cast<double>(tokens), statistics.experts[e].*member);
    }
  }
  return found;
}

CalibrationFeed::CalibrationFeed(const Calibration& calibration, const format::ModelParams& params)
    : calibration_(calibration),
      params_(params),
      expert_tokens_(params.n_layers, std::vector<std::uint64_t>(params.num_experts)) {}

void CalibrationFeed::restore(const format::ModelTensor& tensor, std::uint64_t tokens) {
  if (tensor.role == format::TensorRole::expert) expert_tokens_[tensor.layer][tensor.expert] = tokens;
}

// Statistics come layer by layer, in order, because the model runs layer by layer: a resumed conversion must
// load those of finished layers, too.
void CalibrationFeed::load_next_layer() {
  const std::uint64_t layer = statistics_ ? statistics_->layer + 1 : 0;
  statistics_ = calibration_.statistics(layer);
  INVARIANT(statistics_->layer == layer && statistics_->experts.size() == params_.num_experts);
  for (std::uint64_t e = 0; e < params_.num_experts; ++e)
    expert_tokens_[layer][e] = statistics_->experts[e].tokens;
  up_.reset();
}

const GptqFactors& CalibrationFeed::find(const format::ModelTensor& tensor) {
  INVARIANT(tensor.role == format::TensorRole::expert);
  if (!statistics_ || statistics_->layer != tensor.layer) {
    while (!statistics_ || statistics_->layer < tensor.layer) load_next_layer();
    static_cast<void>(fill_under_calibrated(*statistics_));
  }
  if (!up_ || expert_ != tensor.expert) {
    expert_ = tensor.expert;
    up_ = std::make_unique<GptqFactors>(statistics_->experts[expert_].up);
    down_ = std::make_unique<GptqFactors>(statistics_->experts[expert_].down);
  }
  return tensor.name.ends_with("w2.weight") ? *down_ : *up_;
}

std::uint64_t CalibrationFeed::tokens(const format::ModelTensor& tensor) const {
  return tensor.role == format::TensorRole::expert ? expert_tokens_[tensor.layer][tensor.expert] : 0;
}

// Every token is routed to the same number of experts.
std::uint64_t CalibrationFeed::tokens_total() const {
  const auto& first = expert_tokens_.front();
  return std::accumulate(first.begin(), first.end(), std::uint64_t{0}) / params_.num_experts_per_tok;
}

std::vector<UnderCalibratedExpert> CalibrationFeed::under_calibrated() const {
  std::vector<UnderCalibratedExpert> found;
  for (std::uint64_t layer = 0; layer < params_.n_layers; ++layer)
    for (std::uint64_t e = 0; e < params_.num_experts; ++e)
      if (const std::uint64_t tokens = expert_tokens_[layer][e]; tokens < kExpertTokensMin)
        found.push_back({layer, e, tokens});
  return found;
}

format::Json CalibrationFeed::to_json() const {
  using format::Json;
  Json tokens = Json::array();
  for (const auto& layer : expert_tokens_) tokens.push_back(Json::array_of(layer));
  return Json::object({{"text_sha256", calibration_.text_sha256},
                       {"tokens", tokens_total()},
                       {"expert_tokens", std::move(tokens)},
                       {"starved", under_calibrated().size()}});
}

}  // namespace sluice::convert
