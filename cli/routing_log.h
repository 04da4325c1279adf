#pragma once
// Records the router's choices: line by line in a trace file, and as counts for the table of `run --stats`.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "cli/styled_text.h"
#include "runtime/runtime.h"

namespace sluice::cli {

/// One line for each token and layer:
/// {"position":..,"token":..,"layer":..,"experts":[..],"weights":[..],"margin":..}. The margin is null where
/// all experts are chosen.
class TraceFile final {
 public:
  explicit TraceFile(const std::filesystem::path& path);
  void add(const runtime::RoutingEvent& event);
  /// Writes the rest of the buffer and gives the file its name. Error{no_space} or Error{io} when the disk is
  /// full or fails.
  void finish();

 private:
  void flush();

  base::AtomicFile file_;
  std::uint64_t offset_bytes_ = 0;
  std::string buffer_;
};

/// True for a file that begins as a trace does.
[[nodiscard]] bool is_trace(const std::filesystem::path& path);

/// For each layer and expert, the number of tokens that chose the expert.
class RoutingCounts final {
 public:
  RoutingCounts(std::uint64_t layer_count, std::uint64_t expert_count);
  void add(const runtime::RoutingEvent& event);

  [[nodiscard]] std::uint64_t layer_count() const { return tokens_.size(); }
  [[nodiscard]] std::uint64_t expert_count() const { return expert_count_; }
  /// The share, in [0, 1], of the layer's tokens that chose the expert. A layer's shares add up to the number
  /// of experts per token.
  [[nodiscard]] double share(std::size_t layer, std::size_t expert) const;
  [[nodiscard]] std::uint64_t tokens(std::size_t layer) const { return tokens_[layer]; }
  /// Among equally used experts, the first.
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

/// The lines of a table of shares in percent: one row a layer, one column an expert, warmer colours for
/// larger shares, and at the end of each row the most and the least used expert.
[[nodiscard]] std::vector<StyledText> routing_table(const RoutingCounts& counts);

}  // namespace sluice::cli
