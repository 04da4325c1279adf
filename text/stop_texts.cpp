#include "text/stop_texts.h"

#include <algorithm>
#include <utility>

namespace sluice::text {

std::string StopTexts::add(std::string_view text) {
  pending_ += text;
  std::size_t begin = std::string::npos;
  std::size_t end = std::string::npos;
  for (const std::string& stop : stops_) {
    const std::size_t at = pending_.find(stop);
    if (at == std::string::npos) continue;
    if (at + stop.size() < end || (at + stop.size() == end && at < begin)) {
      begin = at;
      end = at + stop.size();
    }
  }
  found_ = begin != std::string::npos;
  const std::size_t shown = found_ ? begin : pending_.size() - held_back();
  std::string result = pending_.substr(0, shown);
  pending_.erase(0, found_ ? pending_.size() : shown);
  return result;
}

std::string StopTexts::finish() { return std::exchange(pending_, {}); }

// The longest end of the text that a stop text begins with.
std::size_t StopTexts::held_back() const {
  std::size_t longest = 0;
  for (const std::string& stop : stops_) {
    for (std::size_t length = std::min(stop.size() - 1, pending_.size()); length > longest; --length) {
      if (pending_.ends_with(std::string_view(stop).substr(0, length))) longest = length;
    }
  }
  return longest;
}

}  // namespace sluice::text
