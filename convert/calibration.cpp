// From the statistics of a calibration text to GPTQ factors (docs/quantization.md, "Calibration"). The
// pipeline asks for factors in container order, layer by layer and expert by expert, so one layer's
// statistics and one expert's factors are in memory at a time. CalibrationFeed has no lock: the pipeline
// calls find() under its own.

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

/// Adds in double and stores floats: moments are sums over thousands of tokens.
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
    // Computed before any expert is filled up, so the order of experts does not matter.
    const InputMoments total = layer_total(statistics, member);
    for (const std::uint64_t e : found) {
      const auto missing = static_cast<double>(kExpertTokensMin - statistics.experts[e].tokens);
      add_scaled(total, missing / static_cast<double>(tokens), statistics.experts[e].*member);
    }
  }
  return found;
}

CalibrationFeed::CalibrationFeed(const Calibration& calibration, const format::ModelDescription& description)
    : calibration_(calibration), description_(description) {
  for (std::uint64_t layer = 0; layer < description.layer_count(); ++layer)
    expert_tokens_.emplace_back(format::expert_count(description.layer(layer)));
}

void CalibrationFeed::restore(const format::ModelTensor& tensor, std::uint64_t tokens) {
  if (tensor.expert) expert_tokens_[tensor.layer][*tensor.expert] = tokens;
}

// Statistics come layer by layer, in order, because the model runs layer by layer: a resumed conversion must
// load those of finished layers, too.
void CalibrationFeed::load_next_layer() {
  const std::uint64_t layer = statistics_ ? statistics_->layer + 1 : 0;
  statistics_ = calibration_.statistics(layer);
  std::vector<std::uint64_t>& tokens = expert_tokens_[layer];
  INVARIANT(statistics_->layer == layer && statistics_->experts.size() == tokens.size());
  for (std::size_t e = 0; e < tokens.size(); ++e) tokens[e] = statistics_->experts[e].tokens;
  up_.reset();
}

const GptqFactors& CalibrationFeed::find(const format::ModelTensor& tensor) {
  INVARIANT(format::is_expert_matrix(tensor));
  if (!statistics_ || statistics_->layer != tensor.layer) {
    while (!statistics_ || statistics_->layer < tensor.layer) load_next_layer();
    static_cast<void>(fill_under_calibrated(*statistics_));
  }
  // Factors are made once for each expert and dropped for the next; keeping all would take gigabytes.
  if (!up_ || expert_ != *tensor.expert) {
    expert_ = *tensor.expert;
    up_ = std::make_unique<GptqFactors>(statistics_->experts[expert_].up);
    down_ = std::make_unique<GptqFactors>(statistics_->experts[expert_].down);
  }
  return tensor.input == format::MatrixInput::hidden ? *down_ : *up_;
}

std::uint64_t CalibrationFeed::tokens(const format::ModelTensor& tensor) const {
  return tensor.expert ? expert_tokens_[tensor.layer][*tensor.expert] : 0;
}

// Every token is routed to the same number of experts.
std::uint64_t CalibrationFeed::tokens_total() const {
  const auto& first = expert_tokens_.front();
  return std::accumulate(first.begin(), first.end(), std::uint64_t{0}) /
         format::experts_per_token(description_.layer(0));
}

std::vector<UnderCalibratedExpert> CalibrationFeed::under_calibrated() const {
  std::vector<UnderCalibratedExpert> found;
  for (std::uint64_t layer = 0; layer < expert_tokens_.size(); ++layer)
    for (std::uint64_t e = 0; e < expert_tokens_[layer].size(); ++e)
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
