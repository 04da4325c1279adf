#include "text/values/loop.h"

#include <utility>

namespace sluice::text::jinja {

std::optional<Value> Loop::take() {
  while (next < items.size()) {
    const Value& item = items[next++];
    if (!accept || accept(item)) return item;
  }
  return std::nullopt;
}

bool Loop::advance() {
  std::optional<Value> item = looked_ahead ? std::exchange(ahead, std::nullopt) : take();
  looked_ahead = false;
  if (!item) return false;
  ++index0;
  previous = std::exchange(current, std::move(item));
  return true;
}

const Value* Loop::peek() {
  if (!looked_ahead) {
    ahead = take();
    // As in Jinja, an end is looked for again: a condition may have changed its mind.
    looked_ahead = ahead.has_value();
  }
  return ahead ? &*ahead : nullptr;
}

std::int64_t Loop::length() {
  if (known_length) return *known_length;
  if (!accept) {
    known_length = static_cast<std::int64_t>(items.size());
    return *known_length;
  }
  Values rest;
  while (auto item = take()) rest.push_back(std::move(*item));
  known_length = static_cast<std::int64_t>(rest.size()) + index0 + 1 + (ahead ? 1 : 0);
  items = std::move(rest);
  next = 0;
  accept = nullptr;
  return *known_length;
}

void Loop::end() {
  if (!accept) return;
  accept = nullptr;
  next = items.size();
}

std::optional<Value> loop_attribute(Loop& loop, std::string_view name) {
  if (name == "index0") return Value(loop.index0);
  if (name == "index") return Value(loop.index0 + 1);
  if (name == "first") return Value(loop.index0 == 0);
  if (name == "last") return Value(loop.peek() == nullptr);
  if (name == "length") return Value(loop.length());
  if (name == "revindex") return Value(loop.length() - loop.index0);
  if (name == "revindex0") return Value(loop.length() - loop.index0 - 1);
  if (name == "depth") return Value(std::int64_t{1});
  if (name == "depth0") return Value(std::int64_t{0});
  if (name == "previtem") {
    if (loop.index0 == 0 || !loop.previous) return make_undefined("there is no previous item");
    return *loop.previous;
  }
  if (name == "nextitem") {
    const Value* item = loop.peek();
    return item != nullptr ? *item : make_undefined("there is no next item");
  }
  return std::nullopt;
}

}  // namespace sluice::text::jinja
