// Filters over lists, tuples, mappings and everything else that can be iterated over. Jinja's map, select and
// their like give generators, which are true, have no length and can be read once; so do these, though their
// elements are computed at once.

#include <algorithm>
#include <functional>
#include <optional>

#include "base/ascii.h"
#include "text/values/filters.h"
#include "text/values/text_operations.h"

namespace sluice::text::jinja {
namespace {

using AttributePath = std::vector<Value>;

// "name.0.key" -> its parts, numbers as integers; no parts for none.
AttributePath attribute_path(Machine& machine, const Value* attribute) {
  if (attribute == nullptr || attribute->is_none()) return {};
  if (!attribute->is_string()) return {*attribute};
  AttributePath path;
  for (const Value& part : split(machine, attribute->marked(), ".", -1, Side::left)) {
    const auto number = base::parse_uint(part.text());
    path.push_back(number && *number <= 1'000'000'000 ? Value(static_cast<std::int64_t>(*number)) : part);
  }
  return path;
}

Value follow(Machine& machine, Value value, const AttributePath& path, const Value* fallback = nullptr) {
  for (const Value& part : path) {
    value = subscript(machine, value, part);
    if (fallback != nullptr && !fallback->is_none() && value.is_undefined()) value = *fallback;
  }
  return value;
}

// Makes the form by which texts are compared when case does not count.
Value sort_key(Machine& machine, Value value, bool case_sensitive) {
  if (case_sensitive || !value.is_string()) return value;
  return machine.text(change_case(machine, value.marked(), CaseChange::lower));
}

struct Keyed {
  Value key;
  Value value;
};

Values sorted_values(Machine& machine, std::vector<Keyed> items, bool reverse) {
  machine.budget.make(items.size() * sizeof(Keyed));
  // As Python does for reverse=True: equal elements keep their order.
  if (reverse) std::ranges::reverse(items);
  std::ranges::stable_sort(items, [&](const Keyed& left, const Keyed& right) {
    return is_lt(compare(machine.budget, left.key, right.key, "<"));
  });
  if (reverse) std::ranges::reverse(items);
  Values values;
  for (Keyed& item : items) values.push_back(std::move(item.value));
  return values;
}

Value pair(Machine& machine, const Value& first, const Value& second) {
  return machine.list({first, second}, SequenceKind::tuple);
}

const Mapping& require_mapping(const Value& subject, std::string_view filter) {
  if (subject.mapping() == nullptr)
    fail("the filter " + std::string(filter) + ": expected a mapping, found " +
         std::string(subject.type_name()));
  return *subject.mapping();
}

Value filter_length(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter length", {});
  return length(machine.budget, subject);
}

Value filter_list(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter list", {});
  return machine.list(elements(machine.budget, subject));
}

Value filter_items(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter items", {});
  Values items;
  if (!subject.is_undefined())
    for (const auto& [key, value] : require_mapping(subject, "items").members)
      items.push_back(pair(machine, key, value));
  return machine.list(std::move(items), SequenceKind::generator);
}

Value filter_dictsort(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter dictsort", {"case_sensitive", "by", "reverse"});
  const std::string by = bound.get(1) == nullptr ? "key" : bound.text(1).text;
  if (by != "key" && by != "value") fail("the filter dictsort sorts by 'key' or 'value'");
  std::vector<Keyed> items;
  for (const auto& [key, value] : require_mapping(subject, "dictsort").members)
    items.push_back(
        {sort_key(machine, by == "key" ? key : value, bound.flag(0, false)), pair(machine, key, value)});
  return machine.list(sorted_values(machine, std::move(items), bound.flag(2, false)));
}

Value filter_sort(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter sort", {"reverse", "case_sensitive", "attribute"});
  std::vector<AttributePath> paths;
  if (bound.get(2) != nullptr && bound.at(2).is_string()) {
    for (const Value& name : split(machine, bound.text(2), ",", -1, Side::left))
      paths.push_back(attribute_path(machine, &name));
  } else {
    paths.push_back(attribute_path(machine, bound.get(2)));
  }
  std::vector<Keyed> items;
  for (Value& item : elements(machine.budget, subject)) {
    Values keys;
    for (const AttributePath& path : paths)
      keys.push_back(sort_key(machine, follow(machine, item, path), bound.flag(1, false)));
    items.push_back({machine.list(std::move(keys)), std::move(item)});
  }
  return machine.list(sorted_values(machine, std::move(items), bound.flag(0, false)));
}

Value filter_unique(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter unique", {"case_sensitive", "attribute"});
  const AttributePath path = attribute_path(machine, bound.get(1));
  Values unique;
  MappingBuilder seen(machine.budget);
  std::size_t seen_count = 0;
  for (Value& item : elements(machine.budget, subject)) {
    seen.set(sort_key(machine, follow(machine, item, path), bound.flag(0, false)), Value());
    if (seen.size() == seen_count) continue;
    seen_count = seen.size();
    unique.push_back(std::move(item));
  }
  return machine.list(std::move(unique), SequenceKind::generator);
}

Value best_of(Machine& machine, const Value& subject, const Arguments& arguments, bool greatest) {
  const Bound bound(arguments, greatest ? "the filter max" : "the filter min",
                    {"case_sensitive", "attribute"});
  const AttributePath path = attribute_path(machine, bound.get(1));
  std::optional<Keyed> best;
  for (Value& item : elements(machine.budget, subject)) {
    Value key = sort_key(machine, follow(machine, item, path), bound.flag(0, false));
    const bool better = !best || (greatest ? is_gt(compare(machine.budget, key, best->key, ">"))
                                           : is_lt(compare(machine.budget, key, best->key, "<")));
    if (better) best = Keyed{std::move(key), std::move(item)};
  }
  return best ? best->value : make_undefined("No aggregated item, sequence was empty.");
}

Value filter_min(Machine& machine, const Value& subject, const Arguments& arguments) {
  return best_of(machine, subject, arguments, false);
}

Value filter_max(Machine& machine, const Value& subject, const Arguments& arguments) {
  return best_of(machine, subject, arguments, true);
}

Value filter_sum(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter sum", {"attribute", "start"});
  const AttributePath path = attribute_path(machine, bound.get(0));
  Value sum = bound.get(1) != nullptr ? bound.at(1) : Value(std::int64_t{0});
  if (sum.is_string()) fail("sum() can't sum strings [use ''.join(seq) instead]");
  for (const Value& item : elements(machine.budget, subject))
    sum = arithmetic(machine, "+", sum, follow(machine, item, path));
  return sum;
}

Value filter_join(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter join", {"d", "attribute"});
  const AttributePath path = attribute_path(machine, bound.get(1));
  Values items = elements(machine.budget, subject);
  if (bound.given(1))
    for (Value& item : items) item = follow(machine, std::move(item), path);
  const MarkedText separator = bound.get(0) != nullptr ? to_text(machine, bound.at(0)) : MarkedText();
  return machine.text(join(machine, separator, items));
}

Value filter_first(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter first", {});
  const Values items = elements(machine.budget, subject);
  return items.empty() ? make_undefined("No first item, sequence was empty.") : items.front();
}

Value filter_last(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter last", {});
  if (subject.sequence() != nullptr && !subject.sequence()->has_length())
    fail("'generator' object is not reversible");
  const Values items = elements(machine.budget, subject);
  return items.empty() ? make_undefined("No last item, sequence was empty.") : items.back();
}

Value filter_reverse(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter reverse", {});
  const Value step(std::int64_t{-1});
  if (subject.is_string()) return slice_of(machine, subject, nullptr, nullptr, &step);
  const bool is_generator = subject.sequence() != nullptr && !subject.sequence()->has_length();
  Values items = elements(machine.budget, subject);
  std::ranges::reverse(items);
  return machine.list(std::move(items), is_generator ? SequenceKind::list : SequenceKind::generator);
}

Value filter_map(Machine& machine, const Value& subject, const Arguments& arguments) {
  std::function<Value(const Value&)> function;
  Arguments rest;
  AttributePath path;
  const Value* fallback = nullptr;
  if (arguments.positional.empty()) {
    const Bound bound(arguments, "the filter map", {"attribute", "default"}, 1);
    path = attribute_path(machine, bound.get(0));
    fallback = bound.get(1);
    function = [&](const Value& item) { return follow(machine, item, path, fallback); };
  } else {
    const Value& name = arguments.positional[0];
    if (!name.is_string()) fail("the filter map: expected the name of a filter");
    rest.positional.assign(arguments.positional.begin() + 1, arguments.positional.end());
    rest.named = arguments.named;
    // Filters in filters in filters would nest without a bracket in the template.
    if (name.text() == "map") fail("the filter map within the filter map is not supported");
    function = [&](const Value& item) { return apply_filter(machine, name.text(), item, rest); };
  }
  Values items;
  if (truth(subject))
    for (const Value& item : elements(machine.budget, subject)) items.push_back(function(item));
  return machine.list(std::move(items), SequenceKind::generator);
}

// select and reject, whose test is of the element or of an attribute of it.
template <bool kept, bool by_attribute>
Value filter_select(Machine& machine, const Value& subject, const Arguments& arguments) {
  AttributePath path;
  Arguments rest = arguments;
  if constexpr (by_attribute) {
    if (rest.positional.empty()) fail("Missing parameter for attribute name");
    path = attribute_path(machine, &arguments.positional[0]);
    rest.positional.erase(rest.positional.begin());
  }
  std::optional<Value> test;
  if (!rest.positional.empty()) {
    test = rest.positional[0];
    rest.positional.erase(rest.positional.begin());
    if (!test->is_string()) fail("expected the name of a test, found " + std::string(test->type_name()));
  }
  Values items;
  if (truth(subject)) {
    for (Value& item : elements(machine.budget, subject)) {
      const Value tested = follow(machine, item, path);
      const bool holds = test ? apply_test(machine, test->text(), tested, rest) : truth(tested);
      if (holds == kept) items.push_back(std::move(item));
    }
  }
  return machine.list(std::move(items), SequenceKind::generator);
}

constexpr std::array<NamedFilter, 19> kFilters = {{
    {"count", &filter_length},
    {"dictsort", &filter_dictsort},
    {"first", &filter_first},
    {"items", &filter_items},
    {"join", &filter_join},
    {"last", &filter_last},
    {"length", &filter_length},
    {"list", &filter_list},
    {"map", &filter_map},
    {"max", &filter_max},
    {"min", &filter_min},
    {"reject", &filter_select<false, false>},
    {"rejectattr", &filter_select<false, true>},
    {"reverse", &filter_reverse},
    {"select", &filter_select<true, false>},
    {"selectattr", &filter_select<true, true>},
    {"sort", &filter_sort},
    {"sum", &filter_sum},
    {"unique", &filter_unique},
}};

}  // namespace

Filter find_sequence_filter(std::string_view name) { return find_in(kFilters, name); }

}  // namespace sluice::text::jinja
