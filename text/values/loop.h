#pragma once
// The variable `loop` of a for statement: Jinja's LoopContext, which looks at most one element ahead.

#include <cstdint>
#include <functional>
#include <optional>

#include "text/values/value.h"

namespace sluice::text::jinja {

struct Loop {
  Values items;
  std::size_t next = 0;                      ///< the first of `items` that was not looked at
  std::function<bool(const Value&)> accept;  ///< the condition of `for .. if`; empty where there is none
  std::optional<Value> ahead;                ///< the element behind the current one, once it was looked at
  bool looked_ahead = false;
  std::optional<Value> previous;
  std::optional<Value> current;
  std::int64_t index0 = -1;
  std::optional<std::int64_t> known_length;
  Values last_changed;  ///< what changed() was given last
  bool changed_before = false;
  int depth = 1;

  /// Makes the next element the current one; false when there is none.
  bool advance();
  /// The element behind the current one; nullptr when there is none.
  [[nodiscard]] const Value* peek();
  [[nodiscard]] std::int64_t length();
  /// The statement has ended: its condition can no longer be evaluated.
  void end();

 private:
  [[nodiscard]] std::optional<Value> take();
};

/// An attribute of `loop`; nothing when there is none of that name.
[[nodiscard]] std::optional<Value> loop_attribute(Loop& loop, std::string_view name);

}  // namespace sluice::text::jinja
