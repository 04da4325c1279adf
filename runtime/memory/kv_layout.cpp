// Spreads the heads of a model over pages of one size. With one group of layers everything lies in one page.
// With several groups the size is searched: pages as large as the smallest group would leave gaps in those of
// the others, and pages as small as a head would make tables without number. The candidates are the groups'
// sizes divided by small numbers, and the one that makes the fewest bytes of one page of each table is taken.
// For the models of docs/families.md that leaves no gap with bf16 and f32.

#include "runtime/memory/kv_layout.h"

#include <algorithm>
#include <limits>

#include "base/bytes.h"
#include "base/invariant.h"

namespace sluice::runtime {
namespace {

/// Groups of layers with a window of their own. A file could give every layer another window, and each would
/// cost a table.
constexpr std::size_t kGroupsMax = 8;
/// The numbers of pages that are tried for a group.
constexpr std::uint64_t kSplitsMax = 16;
/// Tables of a sequence, if there are several groups. One table a group is always a candidate.
constexpr std::uint64_t kTablesMax = 64;

std::size_t element_bytes(KvType type) {
  switch (type) {
    case KvType::f32: return 4;
    case KvType::bf16: return 2;
    case KvType::q8: return 1;
  }
  INVARIANT(!"a KvType without size");
}

std::size_t scale_bytes(KvType type) { return type == KvType::q8 ? sizeof(float) : 0; }

std::size_t stride_of(std::uint64_t width) { return static_cast<std::size_t>(base::align_up(width, kLanes)); }

/// Keys, values and scales that a head has in a page.
std::uint64_t head_bytes(const KeyValueShape& shape, KvType type) {
  const std::uint64_t elements = stride_of(shape.width) + stride_of(shape.value_width);
  return kKvPageTokens * (elements * element_bytes(type) + 2 * scale_bytes(type));
}

/// Of all heads, in 63 bits.
std::optional<std::uint64_t> bytes_of_all(const DecoderShape& shape, KvType type) {
  std::uint64_t total = 0;
  for (const LayerShape& layer : shape.layers) {
    const auto bytes = base::checked_mul(layer.key_values().heads, head_bytes(layer.key_values(), type));
    const auto sum = bytes ? base::checked_add(total, *bytes) : std::nullopt;
    if (!sum || *sum >= std::uint64_t{1} << 63) return std::nullopt;
    total = *sum;
  }
  return total;
}

/// No window is the largest one.
std::uint64_t as_number(const std::optional<std::uint64_t>& window) {
  return window.value_or(std::numeric_limits<std::uint64_t>::max());
}

/// Heads of equal size, one behind the other.
struct Run {
  std::uint64_t heads;
  std::uint64_t head_bytes;
};

struct Filled {
  std::uint64_t tables = 0;
  std::uint64_t most_bytes = 0;  ///< in a page
};

/// Fills pages of at most `page_bytes`, in which each head fits, in the order of the heads.
Filled fill(const std::vector<Run>& runs, std::uint64_t page_bytes) {
  Filled filled;
  std::uint64_t used = page_bytes;  // the first head begins a page
  for (const Run& run : runs) {
    for (std::uint64_t placed = 0; placed < run.heads;) {
      if (used + run.head_bytes > page_bytes) {
        ++filled.tables;
        used = 0;
      }
      const std::uint64_t count = std::min(run.heads - placed, (page_bytes - used) / run.head_bytes);
      placed += count;
      used += count * run.head_bytes;
      filled.most_bytes = std::max(filled.most_bytes, used);
    }
  }
  return filled;
}

std::uint64_t bytes_of(const std::vector<Run>& runs) {
  std::uint64_t bytes = 0;
  for (const Run& run : runs) bytes += run.heads * run.head_bytes;
  return bytes;
}

std::uint64_t best_page_bytes(const std::vector<std::vector<Run>>& groups) {
  if (groups.size() == 1) return bytes_of(groups.front());
  std::uint64_t largest_head = 0;
  std::uint64_t all_bytes = 0;
  for (const auto& runs : groups) {
    for (const Run& run : runs) largest_head = std::max(largest_head, run.head_bytes);
    all_bytes += bytes_of(runs);
  }
  std::uint64_t best = 0;
  std::uint64_t least_tables = 0;
  std::uint64_t least_bytes = std::numeric_limits<std::uint64_t>::max();
  for (const auto& of_group : groups) {
    for (std::uint64_t split = 1; split <= kSplitsMax; ++split) {
      const std::uint64_t limit = std::max(largest_head, base::divide_up(bytes_of(of_group), split));
      if (all_bytes / limit > kTablesMax) break;
      std::uint64_t tables = 0;
      std::uint64_t page_bytes = 0;
      for (const auto& runs : groups) {
        const Filled filled = fill(runs, limit);
        tables += filled.tables;
        page_bytes = std::max(page_bytes, filled.most_bytes);
      }
      const auto bytes = base::checked_mul(tables, page_bytes);
      if (!bytes || *bytes > least_bytes || (*bytes == least_bytes && tables >= least_tables)) continue;
      best = page_bytes;
      least_bytes = *bytes;
      least_tables = tables;
    }
  }
  return best;
}

}  // namespace

std::string_view to_string(KvType type) {
  switch (type) {
    case KvType::f32: return "f32";
    case KvType::bf16: return "bf16";
    case KvType::q8: return "q8";
  }
  INVARIANT(!"a KvType without name");
}

std::optional<KvType> parse_kv_type(std::string_view text) {
  for (const KvType type : {KvType::f32, KvType::bf16, KvType::q8})
    if (to_string(type) == text) return type;
  return std::nullopt;
}

struct KvLayout::Group {
  std::optional<std::uint64_t> window_tokens;
  std::vector<std::size_t> layers;
};

/// The layers that keep positions, by their windows. Beyond kGroupsMax different windows, the layers with the
/// smallest ones keep as much as the next larger window needs.
std::vector<KvLayout::Group> KvLayout::groups_of(const DecoderShape& shape) {
  std::vector<Group> groups;
  const auto same_window = [](const auto& window) {
    return [&window](const Group& group) { return group.window_tokens == window; };
  };
  for (const LayerShape& layer : shape.layers) {
    const auto window = layer.window_tokens();
    if (layer.key_values().heads != 0 && std::ranges::none_of(groups, same_window(window)))
      groups.push_back({window, {}});
  }
  std::ranges::sort(groups, std::greater(), [](const Group& g) { return as_number(g.window_tokens); });
  if (groups.size() > kGroupsMax) groups.resize(kGroupsMax);
  for (std::size_t i = 0; i < shape.layers.size(); ++i) {
    if (shape.layers[i].key_values().heads == 0) continue;
    const auto window = shape.layers[i].window_tokens();
    const auto found = std::ranges::find_if(groups, same_window(window));
    (found != groups.end() ? *found : groups.back()).layers.push_back(i);
  }
  return groups;
}

std::optional<KvLayout> KvLayout::make(const DecoderShape& shape, KvType type) {
  const auto all_bytes = bytes_of_all(shape, type);
  if (!all_bytes) return std::nullopt;
  KvLayout layout(type);
  for (const LayerShape& layer : shape.layers) {
    layout.first_head_.push_back(layout.heads_.size());
    const KeyValueShape of_layer = layer.key_values();
    layout.heads_.resize(layout.heads_.size() + of_layer.heads, layout.head_of(of_layer));
  }
  layout.first_head_.push_back(layout.heads_.size());
  const std::vector<Group> groups = groups_of(shape);
  if (groups.empty()) return layout;
  std::vector<std::vector<Run>> runs;
  for (const Group& group : groups) {
    runs.emplace_back();
    for (const std::size_t layer : group.layers) {
      const KeyValueShape of_layer = shape.layers[layer].key_values();
      runs.back().push_back({of_layer.heads, head_bytes(of_layer, type)});
    }
  }
  layout.page_bytes_ = best_page_bytes(runs);
  layout.place(groups);
  layout.place_scales();
  return layout;
}

KvLayout::Head KvLayout::head_of(const KeyValueShape& shape) const {
  const std::size_t stride = stride_of(shape.width);
  const std::size_t value_stride = stride_of(shape.value_width);
  return {.stride = stride,
          .row_bytes = stride * element_bytes(type_),
          .value_stride = value_stride,
          .value_row_bytes = value_stride * element_bytes(type_)};
}

/// Keys and values of a head in a page.
std::uint64_t KvLayout::rows_bytes(const Head& head) const {
  return kKvPageTokens * (head.row_bytes + head.value_row_bytes);
}

/// Their scales.
std::uint64_t KvLayout::scales_bytes() const { return 2 * kKvPageTokens * scale_bytes(type_); }

/// Gives each head its table and the place of its keys, in the order of fill().
void KvLayout::place(const std::vector<Group>& groups) {
  for (const Group& group : groups) {
    std::uint64_t used = page_bytes_;
    std::uint64_t offset_bytes = 0;
    for (const std::size_t layer : group.layers) {
      for (std::size_t i = first_head_[layer]; i < first_head_[layer + 1]; ++i) {
        Head& head = heads_[i];
        const std::uint64_t bytes = rows_bytes(head) + scales_bytes();
        if (used + bytes > page_bytes_) {
          windows_.push_back(group.window_tokens);
          used = offset_bytes = 0;
        }
        head.table = windows_.size() - 1;
        head.keys_offset_bytes = offset_bytes;
        offset_bytes += rows_bytes(head);
        used += bytes;
      }
    }
  }
}

/// The scales of a page lie behind all its keys and values.
void KvLayout::place_scales() {
  std::vector<std::uint64_t> end_bytes(windows_.size());
  for (const Head& head : heads_)
    end_bytes[head.table] = std::max(end_bytes[head.table], head.keys_offset_bytes + rows_bytes(head));
  for (Head& head : heads_) {
    head.key_scales_offset_bytes = end_bytes[head.table];
    end_bytes[head.table] += scales_bytes();
  }
}

std::uint64_t KvLayout::page_count_max(const KvLimits& limits) const {
  // Far more than any memory holds, so that the sum below stays within its type.
  constexpr std::uint64_t kMost = std::uint64_t{1} << 50;
  const std::uint64_t all = std::min(kMost, base::divide_up(limits.context_tokens, kKvPageTokens));
  std::uint64_t total = 0;
  for (const auto& window : windows_) {
    // While the last token of a step is written, the first one still sees its whole window, so window + step
    // - 1 positions are held. n consecutive positions touch at most (n - 1) / page + 1 pages, the quotient
    // rounded up: one page more than they fill, when they begin at the last row of a page.
    const auto seen =
        window && !limits.keep_positions ? base::checked_add(*window, limits.step_tokens) : std::nullopt;
    total += seen ? std::min(all, (*seen + kKvPageTokens - 3) / kKvPageTokens + 1) : all;
  }
  return total;
}

}  // namespace sluice::runtime
