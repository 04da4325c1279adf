// This file has both consumers of routing events. The runtime calls them on the thread that feeds the
// session, in order of layer, then position, so neither of them locks. The trace is written through a buffer;
// the counts take one number for each layer and expert, however long the text is.

#include "cli/routing_log.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/bytes.h"
#include "base/error.h"
#include "base/invariant.h"
#include "cli/table.h"
#include "format/json.h"

namespace sluice::cli {
namespace {

// A token writes a line for each layer; 64 KiB keep that from being a system call each.
constexpr std::size_t kTraceBufferBytes = 1 << 16;

// Colours of the xterm 256-colour palette from cold to hot, all dark enough for white digits.
constexpr std::array<std::uint8_t, 9> kHeat = {17, 18, 19, 55, 91, 127, 161, 160, 196};

constexpr std::uint8_t kWhite = 15;

void add_cell(double share, double share_max, StyledText& line) {
  // The scale ends at the largest share of the table, since shares depend on the number of experts.
  const double heat = share_max > 0 ? share / share_max : 0;
  const auto step = static_cast<std::size_t>(std::lround(heat * static_cast<double>(kHeat.size() - 1)));
  line.add(format_number("%5.1f ", share * 100), {.foreground = kWhite, .background = kHeat[step]});
}

}  // namespace

TraceFile::TraceFile(const std::filesystem::path& path) : file_(path) {}

void TraceFile::add(const runtime::RoutingEvent& event) {
  using format::Json;
  Json weights = Json::array();
  for (const float weight : event.weights) weights.push_back(Json(static_cast<double>(weight)));
  buffer_ +=
      Json::object({{"position", event.position},
                    {"token", event.token},
                    {"layer", event.layer},
                    {"experts", Json::array_of(event.experts)},
                    {"weights", std::move(weights)},
                    {"margin", event.margin ? Json(static_cast<double>(*event.margin)) : Json(nullptr)}})
          .dump();
  buffer_ += '\n';
  if (buffer_.size() >= kTraceBufferBytes) flush();
}

/// finish() is a function of its own, because a destructor could not report that the disk is full.
void TraceFile::finish() {
  flush();
  file_.commit();
}

void TraceFile::flush() {
  file_.file().write_at(offset_bytes_, base::as_bytes(buffer_));
  offset_bytes_ += buffer_.size();
  buffer_.clear();
}

bool is_trace(const std::filesystem::path& path) {
  const base::File file = base::File::open_read(path);
  std::vector<std::byte> start(kTraceBufferBytes);
  start.resize(file.read_at(0, start));
  const std::string_view text = base::as_text(start);
  try {
    const auto line = format::parse_json(text.substr(0, text.find('\n')), "trace");
    return line.is_object() && line.find("position") != nullptr && line.find("token") != nullptr &&
           line.find("layer") != nullptr && line.find("experts") != nullptr;
  } catch (const base::Error&) {
    return false;
  }
}

RoutingCounts::RoutingCounts(std::uint64_t layer_count, std::uint64_t expert_count)
    : expert_count_(expert_count), tokens_(layer_count), chosen_(layer_count * expert_count) {}

void RoutingCounts::add(const runtime::RoutingEvent& event) {
  // Events come from the runtime, so an index out of range is a bug and not bad input.
  INVARIANT(event.layer < tokens_.size());
  ++tokens_[event.layer];
  for (const std::uint32_t expert : event.experts) {
    INVARIANT(expert < expert_count_);
    ++chosen_[event.layer * expert_count_ + expert];
  }
}

double RoutingCounts::share(std::size_t layer, std::size_t expert) const {
  // A dense layer has no router, so no token is ever counted for it.
  if (tokens_[layer] == 0) return 0;
  return static_cast<double>(chosen_[layer * expert_count_ + expert]) / static_cast<double>(tokens_[layer]);
}

std::size_t RoutingCounts::most_used(std::size_t layer) const {
  const auto counts = counts_of(layer);
  return static_cast<std::size_t>(std::ranges::max_element(counts) - counts.begin());
}

std::size_t RoutingCounts::least_used(std::size_t layer) const {
  const auto counts = counts_of(layer);
  return static_cast<std::size_t>(std::ranges::min_element(counts) - counts.begin());
}

std::vector<StyledText> routing_table(const RoutingCounts& counts) {
  double share_max = 0;
  for (std::size_t layer = 0; layer < counts.layer_count(); ++layer) {
    for (std::size_t expert = 0; expert < counts.expert_count(); ++expert) {
      share_max = std::max(share_max, counts.share(layer, expert));
    }
  }
  std::vector<StyledText> lines{"Share of the tokens that chose each expert, in percent", "layer  expert"};
  // Each cell is six columns wide, so the header's first cell is aligned with "expert".
  std::string header = "     ";
  for (std::size_t expert = 0; expert < counts.expert_count(); ++expert) {
    header += format_number("%5.0f ", static_cast<double>(expert));
  }
  lines.emplace_back(header + "  most    least");
  for (std::size_t layer = 0; layer < counts.layer_count(); ++layer) {
    StyledText line(format_number("%4.0f ", static_cast<double>(layer)));
    for (std::size_t expert = 0; expert < counts.expert_count(); ++expert) {
      add_cell(counts.share(layer, expert), share_max, line);
    }
    line.add(format_number("%6.0f", static_cast<double>(counts.most_used(layer))));
    line.add(format_number("%9.0f", static_cast<double>(counts.least_used(layer))));
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace sluice::cli
