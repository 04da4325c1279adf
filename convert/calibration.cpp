#include "convert/calibration.h"

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

std::vector<std::uint64_t> feed_starved(LayerStatistics& statistics) {
  std::vector<std::uint64_t> starved;
  std::uint64_t tokens = 0;
  for (std::uint64_t e = 0; e < statistics.experts.size(); ++e) {
    tokens += statistics.experts[e].tokens;
    if (statistics.experts[e].tokens < kExpertTokensMin) starved.push_back(e);
  }
  if (starved.empty()) return starved;
  INVARIANT(tokens > 0);
  for (const MomentsMember member : {&format::ExpertStatistics::up, &format::ExpertStatistics::down}) {
    const InputMoments total = layer_total(statistics, member);
    for (const std::uint64_t e : starved) {
      const auto missing = static_cast<double>(kExpertTokensMin - statistics.experts[e].tokens);
      add_scaled(total, missing / static_cast<double>(tokens), statistics.experts[e].*member);
    }
  }
  return starved;
}

void CalibrationFeed::load_layer(std::uint64_t layer) {
  statistics_ = calibration_.statistics(layer);
  INVARIANT(statistics_->layer == layer && statistics_->experts.size() == params_.num_experts);
  std::vector<std::uint64_t> tokens;
  for (const auto& expert : statistics_->experts) tokens.push_back(expert.tokens);
  expert_tokens_.push_back(std::move(tokens));
  for (const std::uint64_t e : feed_starved(*statistics_))
    starved_.push_back({layer, e, expert_tokens_.back()[e]});
  up_.reset();
}

const Compensation& CalibrationFeed::find(const format::ModelTensor& tensor) {
  INVARIANT(tensor.role == format::TensorRole::expert);
  if (!statistics_ || statistics_->layer != tensor.layer) load_layer(tensor.layer);
  if (!up_ || expert_ != tensor.expert) {
    expert_ = tensor.expert;
    up_ = std::make_unique<Compensation>(statistics_->experts[expert_].up);
    down_ = std::make_unique<Compensation>(statistics_->experts[expert_].down);
  }
  return tensor.name.ends_with("w2.weight") ? *down_ : *up_;
}

format::Json CalibrationFeed::to_json() const {
  using format::Json;
  Json tokens = Json::array();
  for (const auto& layer : expert_tokens_) tokens.push_back(Json::array_of(layer));
  return Json::object({{"text_sha256", calibration_.text_sha256},
                       {"tokens", calibration_.tokens},
                       {"expert_tokens", std::move(tokens)},
                       {"starved", starved_.size()}});
}

}  // namespace sluice::convert
