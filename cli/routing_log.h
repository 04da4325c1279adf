#pragma once
// What the router chose: written line by line to a trace file, and counted for the table of `run --stats`.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "runtime/runtime.h"

namespace sluice::cli {

/// {"position":..,"token":..,"layer":..,"experts":[..],"weights":[..],"margin":..}, one line a token and
/// layer; the margin is null where all experts are chosen.
class TraceFile final {
 public:
  explicit TraceFile(const std::filesystem::path& path);
  void add(const runtime::RoutingEvent& event);
  /// Writes what is still buffered; a full disk is told here.
  void finish();

 private:
  void flush();

  base::File file_;
  std::uint64_t offset_bytes_ = 0;
  std::string buffer_;
};

/// Counts, a layer and expert, of the tokens that chose it.
class RoutingCounts final {
 public:
  RoutingCounts(std::uint64_t layer_count, std::uint64_t expert_count);
  void add(const runtime::RoutingEvent& event);

  [[nodiscard]] std::uint64_t layer_count() const { return tokens_.size(); }
  [[nodiscard]] std::uint64_t expert_count() const { return expert_count_; }
  /// Share in [0, 1] of the tokens seen in that layer that chose that expert; a row sums to experts a token.
  [[nodiscard]] double share(std::size_t layer, std::size_t expert) const;
  [[nodiscard]] std::uint64_t tokens(std::size_t layer) const { return tokens_[layer]; }
  /// Of equal ones the first.
  [[nodiscard]] std::size_t most_used(std::size_t layer) const;
  [[nodiscard]] std::size_t least_used(std::size_t layer) const;

 private:
  [[nodiscard]] std::span<const std::uint64_t> counts_of(std::size_t layer) const {
    return std::span(chosen_).subspan(layer * expert_count_, expert_count_);
  }

  std::uint64_t expert_count_;
  std::vector<std::uint64_t> tokens_;  // [layer]
  std::vector<std::uint64_t> chosen_;  // [layer, expert]
};

/// Layers down, experts across, the share in percent in each cell; with colour, the fuller the warmer. Behind
/// each layer its most and its least used expert.
[[nodiscard]] std::string format_routing_table(const RoutingCounts& counts, bool color);

}  // namespace sluice::cli
