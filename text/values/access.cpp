// Attributes, subscripts and slices, as Jinja's sandbox looks them up.

#include <algorithm>
#include <limits>
#include <optional>

#include "text/values/loop.h"
#include "text/values/machine.h"

namespace sluice::text::jinja {
namespace {

std::string quoted(const Value& key) {
  if (key.is_string()) return "'" + key.text().substr(0, 80) + "'";
  if (key.is_int()) return std::to_string(key.integer());
  return std::string(key.type_name());
}

Value missing(const Value& object, const Value& key) {
  return make_undefined("'" + std::string(object.type_name()) + " object' has no attribute " + quoted(key));
}

// Finds what Python's getattr() finds: methods, and the state of namespaces and loops.
std::optional<Value> python_attribute(Machine& machine, const Value& object, std::string_view name) {
  if (object.is_undefined()) fail(object.undefined_reason());
  if (name.size() > 4 && name.starts_with("__") && name.ends_with("__"))
    fail("the attribute '" + std::string(name.substr(0, 80)) + "' is not supported");
  if (Namespace* space = object.name_space()) {
    const Value* value = space->find(name);
    return value == nullptr ? std::nullopt : std::optional<Value>(*value);
  }
  if (Loop* loop = object.loop()) {
    if (name != "cycle" && name != "changed") return loop_attribute(*loop, name);
  } else if (object.macro() != nullptr) {
    fail("attributes of macros are not supported");
  } else if (!has_method(object, name)) {
    return std::nullopt;
  }
  machine.budget.make(sizeof(Method) + name.size());
  Value method = std::make_shared<const Method>(Method{.self = object, .name = std::string(name)});
  if (method.depth() > kValueDepthMax) fail("a method belongs to a value of too many levels");
  return method;
}

// Finds what object[key] finds in Python.
std::optional<Value> item(Machine& machine, const Value& object, const Value& key) {
  if (const Mapping* mapping = object.mapping()) {
    // A key that Python cannot hash is no error in Jinja.
    if (key.mapping() != nullptr || (key.sequence() != nullptr && key.sequence()->kind == SequenceKind::list))
      return std::nullopt;
    const Value* value = find(machine.budget, *mapping, key);
    return value == nullptr ? std::nullopt : std::optional<Value>(*value);
  }
  if (!key.is_integral()) return std::nullopt;
  const Sequence* sequence = object.sequence();
  const bool subscripted = object.is_string() || (sequence != nullptr && sequence->has_subscripts());
  if (!subscripted) return std::nullopt;
  const std::int64_t count = length(machine.budget, object);
  std::int64_t index = key.integer();
  if (index < 0) index += count;
  if (index < 0 || index >= count) return std::nullopt;
  if (sequence != nullptr) return sequence->items[static_cast<std::size_t>(index)];
  const Value begin(index);
  const Value end(index + 1);
  return slice_of(machine, object, &begin, &end, nullptr);
}

std::optional<std::int64_t> slice_bound(const Value* value) {
  if (value == nullptr || value->is_none()) return std::nullopt;
  if (value->is_integral()) return value->integer();
  if (value->is_undefined()) fail(value->undefined_reason());
  fail("slice indices must be integers, found " + std::string(value->type_name()));
}

// Offsets of the characters of a text, and its length at the end.
std::vector<std::size_t> character_offsets(Machine& machine, const std::string& text) {
  std::vector<std::size_t> offsets;
  for (std::size_t i = 0; i < text.size(); ++i)
    if ((text[i] & 0xC0) != 0x80) offsets.push_back(i);
  offsets.push_back(text.size());
  machine.budget.make(offsets.size() * sizeof(std::size_t));
  return offsets;
}

// PySlice_AdjustIndices.
struct SliceRange {
  SliceRange(std::optional<std::int64_t> from, std::optional<std::int64_t> to, std::int64_t by,
             std::int64_t length)
      : step(by) {
    const std::int64_t lowest = step < 0 ? -1 : 0;
    const std::int64_t highest = step < 0 ? length - 1 : length;
    const auto adjust = [&](std::int64_t bound) {
      if (bound < 0) bound = bound < -length ? lowest : std::max(bound + length, lowest);
      return std::min(bound, highest);
    };
    begin = from ? adjust(*from) : step < 0 ? highest : lowest;
    end = to ? adjust(*to) : step < 0 ? lowest : highest;
    if (step > 0 && begin < end) count = (end - begin - 1) / step + 1;
    if (step < 0 && end < begin) count = (begin - end - 1) / -step + 1;
  }

  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t step = 1;
  std::int64_t count = 0;
};

Value slice_text(Machine& machine, const MarkedText& text, const std::vector<std::size_t>& offsets,
                 const SliceRange& range) {
  MarkedBuilder builder(machine.budget);
  if (range.step == 1) {
    if (range.count > 0)
      builder.append(text, offsets[static_cast<std::size_t>(range.begin)],
                     offsets[static_cast<std::size_t>(range.begin + range.count)]);
  } else {
    for (std::int64_t i = 0; i < range.count; ++i) {
      machine.budget.step();
      const auto index = static_cast<std::size_t>(range.begin + i * range.step);
      builder.append(text, offsets[index], offsets[index + 1]);
    }
  }
  return machine.text(builder.take());
}

Value slice_sequence(Machine& machine, const Sequence& sequence, const SliceRange& range) {
  if (sequence.kind == SequenceKind::range) fail("slices of ranges are not supported");
  Values items;
  for (std::int64_t i = 0; i < range.count; ++i)
    items.push_back(sequence.items[static_cast<std::size_t>(range.begin + i * range.step)]);
  return machine.list(std::move(items), sequence.kind);
}

}  // namespace

Value attribute(Machine& machine, const Value& object, std::string_view name) {
  if (auto value = python_attribute(machine, object, name)) return std::move(*value);
  const Value key = make_string(machine.budget, std::string(name));
  if (auto value = item(machine, object, key)) return std::move(*value);
  return missing(object, key);
}

Value subscript(Machine& machine, const Value& object, const Value& key) {
  if (object.is_undefined()) fail(object.undefined_reason());
  if (auto value = item(machine, object, key)) return std::move(*value);
  if (key.is_string())
    if (auto value = python_attribute(machine, object, key.text())) return std::move(*value);
  return missing(object, key);
}

Value slice_of(Machine& machine, const Value& object, const Value* begin, const Value* end,
               const Value* step) {
  if (object.is_undefined()) fail(object.undefined_reason());
  const Sequence* sequence = object.sequence();
  // Unlike for subscripts, Jinja leaves slices to Python, which has no undefined values.
  if (!object.is_string() && (sequence == nullptr || !sequence->has_subscripts()))
    fail("'" + std::string(object.type_name()) + "' object cannot be sliced");
  if (object.is_safe()) fail("text from the filter 'safe' is sliced");
  const std::int64_t by = slice_bound(step).value_or(1);
  if (by == 0) fail("slice step cannot be zero");
  if (by == std::numeric_limits<std::int64_t>::min()) fail("a slice step is out of range");
  const auto offsets =
      object.is_string() ? character_offsets(machine, object.text()) : std::vector<std::size_t>();
  const auto count =
      static_cast<std::int64_t>(sequence != nullptr ? sequence->items.size() : offsets.size() - 1);
  const SliceRange range(slice_bound(begin), slice_bound(end), by, count);
  return sequence != nullptr ? slice_sequence(machine, *sequence, range)
                             : slice_text(machine, object.marked(), offsets, range);
}

}  // namespace sluice::text::jinja
