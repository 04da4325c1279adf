#pragma once
// The fields of a ModelDescription, once: their keys in JSON, their order, bounds and neutral values. Private
// to format: the writer and the reader (model_description_json.cpp) and the check of bounds
// (model_description.cpp) are "archives" that visit this list, so that they cannot disagree.
//
// An archive A has these members, of which each takes the key, the value as Ref<A, T>, and the bounds:
//   count       a whole number from 1 on, or an optional one
//   flag        a truth value; neutral: false
//   flag_or     a truth value with a neutral value
//   number      a number, or an optional one
//   number_or   a number with a neutral value
//   choice, written_choice   an enumerator with its names; neutral: the first, or none
//   object      a struct of this list, or an optional one
//   one_of      a variant with the names of its alternatives; the first may be neutral
//   kinds       the vector of layer kinds
//   indices     the vector of indices

#include <array>
#include <string_view>

#include "format/model_description.h"
#include "format/model_limits.h"

namespace sluice::format {

/// T& for an archive that sets values, const T& for one that reads them.
template <typename Archive, typename T>
using Ref = typename Archive::template Ref<T>;

/// Whether the first alternative of a variant goes without saying.
enum class FirstIs : std::uint8_t { neutral, written };

constexpr std::array<std::string_view, 4> kMixerNames{"grouped-query-attention", "latent-attention",
                                                      "gated-delta-net", "short-convolution"};
constexpr std::array<std::string_view, 3> kActivationNames{"silu", "gelu-tanh", "clamped-swiglu"};
constexpr std::array<std::string_view, 5> kRopeScalingNames{"none", "yarn", "llama3", "proportional",
                                                            "linear"};
constexpr std::array<std::string_view, 2> kRopeStyleNames{"interleaved", "half-split"};
constexpr std::array<std::string_view, 3> kQueryKeyNormNames{"none", "per-head", "full-width"};
constexpr std::array<std::string_view, 2> kDeltaInputsNames{"separate", "packed"};
constexpr std::array<std::string_view, 2> kRouterScoreNames{"softmax", "sigmoid"};
constexpr std::array<std::string_view, 2> kGroupScoreNames{"best", "best-two"};
constexpr std::array<std::string_view, 2> kNormWeightsNames{"plain", "plus-one"};

template <typename A>
void fields(A&, Ref<A, NoRopeScaling>) {}

template <typename A>
void fields(A& a, Ref<A, YarnScaling> v) {
  a.number("factor", v.factor, 1, kFactorMax);
  a.count("original_context_tokens", v.original_context_tokens, kTokensMax);
  a.number_or("beta_fast", v.beta_fast, 32, kFactorMin, kFactorMax);
  a.number_or("beta_slow", v.beta_slow, 1, kFactorMin, kFactorMax);
  a.flag_or("round_ramp", v.round_ramp, true);
  a.number_or("cos_sin_factor", v.cos_sin_factor, 1, kFactorMin, kFactorMax);
}

template <typename A>
void fields(A& a, Ref<A, Llama3Scaling> v) {
  a.number("factor", v.factor, 1, kFactorMax);
  a.count("original_context_tokens", v.original_context_tokens, kTokensMax);
  a.number("low_frequency_factor", v.low_frequency_factor, kFactorMin, kFactorMax);
  a.number("high_frequency_factor", v.high_frequency_factor, kFactorMin, kFactorMax);
}

template <typename A>
void fields(A& a, Ref<A, ProportionalScaling> v) {
  a.count("turned_dims", v.turned_dims, kWidthMax);
}

template <typename A>
void fields(A& a, Ref<A, LinearScaling> v) {
  a.number("factor", v.factor, kFactorMin, kFactorMax);
}

template <typename A>
void fields(A& a, Ref<A, Rope> v) {
  a.written_choice("style", v.style, kRopeStyleNames);
  a.count("rotary_dims", v.rotary_dims, kWidthMax);
  a.number("base", v.base, kRopeBaseMin, kRopeBaseMax);
  a.one_of("scaling", v.scaling, kRopeScalingNames, FirstIs::neutral);
}

template <typename A>
void fields(A& a, Ref<A, QueryTemperature> v) {
  a.number("beta", v.beta, kFactorMin, kFactorMax);
  a.count("original_context_tokens", v.original_context_tokens, kTokensMax);
}

template <typename A>
void fields(A& a, Ref<A, GroupedQueryAttention> v) {
  a.count("heads", v.heads, kWidthMax);
  a.count("key_heads", v.key_heads, kWidthMax);
  a.count("head_dim", v.head_dim, kWidthMax);
  a.count("window_tokens", v.window_tokens, kTokensMax);
  a.flag("input_biases", v.input_biases);
  a.flag("output_bias", v.output_bias);
  a.choice("query_key_norm", v.query_key_norm, kQueryKeyNormNames);
  a.flag("value_norm", v.value_norm);
  a.flag("keys_are_values", v.keys_are_values);
  a.flag("sinks", v.sinks);
  a.flag("output_gate", v.output_gate);
  a.number("scale", v.scale, kFactorMin, kFactorMax);
  a.number("soft_cap", v.soft_cap, kFactorMin, kFactorMax);
  a.number("clip", v.clip, kFactorMin, kFactorMax);
  a.object("rope", v.rope);
  a.object("query_temperature", v.query_temperature);
}

template <typename A>
void fields(A& a, Ref<A, LatentAttention> v) {
  a.count("heads", v.heads, kWidthMax);
  a.count("query_rank", v.query_rank, kWidthMax);
  a.count("latent_rank", v.latent_rank, kWidthMax);
  a.count("plain_dims", v.plain_dims, kWidthMax);
  a.count("value_dims", v.value_dims, kWidthMax);
  a.number("latent_norm_epsilon", v.latent_norm_epsilon, kEpsilonMin, kEpsilonMax);
  a.number("scale", v.scale, kFactorMin, kFactorMax);
  a.object("rope", v.rope);
  a.object("query_temperature", v.query_temperature);
}

template <typename A>
void fields(A& a, Ref<A, GatedDeltaNet> v) {
  a.count("key_heads", v.key_heads, kWidthMax);
  a.count("value_heads", v.value_heads, kWidthMax);
  a.count("key_dim", v.key_dim, kWidthMax);
  a.count("value_dim", v.value_dim, kWidthMax);
  a.count("convolution_tokens", v.convolution_tokens, kWidthMax);
  a.choice("inputs", v.inputs, kDeltaInputsNames);
}

template <typename A>
void fields(A& a, Ref<A, ShortConvolution> v) {
  a.count("convolution_tokens", v.convolution_tokens, kWidthMax);
}

template <typename A>
void fields(A& a, Ref<A, DenseFeedForward> v) {
  a.count("width", v.width, kWidthMax);
}

template <typename A>
void fields(A& a, Ref<A, RouterGroups> v) {
  a.count("groups", v.groups, kExpertsMax);
  a.count("kept", v.kept, kExpertsMax);
  a.written_choice("score", v.score, kGroupScoreNames);
}

template <typename A>
void fields(A& a, Ref<A, Router> v) {
  a.written_choice("score", v.score, kRouterScoreNames);
  a.flag("renormalise", v.renormalise);
  a.flag("logit_bias", v.logit_bias);
  a.flag("selection_bias", v.selection_bias);
  a.object("groups", v.groups);
  a.number_or("scale", v.scale, 1, kFactorMin, kFactorMax);
  a.flag("own_input", v.own_input);
  a.number_or("renormalise_epsilon", v.renormalise_epsilon, 1e-20, 1e-20, 1e-2);
}

template <typename A>
void fields(A& a, Ref<A, SharedExpert> v) {
  a.count("width", v.width, kWidthMax);
  a.flag("gate", v.gate);
}

template <typename A>
void fields(A& a, Ref<A, Mixture> v) {
  a.count("experts", v.experts, kExpertsMax);
  a.count("experts_per_token", v.experts_per_token, kExpertsMax);
  a.count("width", v.width, kWidthMax);
  a.flag("expert_biases", v.expert_biases);
  a.object("router", v.router);
  a.object("shared", v.shared);
}

template <typename A>
void fields(A& a, Ref<A, FeedForward> v) {
  a.object("dense", v.dense);
  a.object("mixture", v.mixture);
}

template <typename A>
void fields(A& a, Ref<A, LayerDescription> v) {
  a.one_of("mixer", v.mixer, kMixerNames, FirstIs::written);
  a.object("feed_forward", v.feed_forward);
  a.flag("post_norms", v.post_norms);
  a.flag("output_scale", v.output_scale);
}

template <typename A>
void fields(A& a, Ref<A, Norm> v) {
  a.number("epsilon", v.epsilon, kEpsilonMin, kEpsilonMax);
  a.choice("weights", v.weights, kNormWeightsNames);
}

template <typename A>
void fields(A&, Ref<A, Silu>) {}

template <typename A>
void fields(A&, Ref<A, GeluTanh>) {}

template <typename A>
void fields(A& a, Ref<A, ClampedSwiglu> v) {
  a.number("alpha", v.alpha, kFactorMin, kFactorMax);
  a.number("limit", v.limit, kFactorMin, kFactorMax);
}

template <typename A>
void fields(A& a, Ref<A, ModelDescription> v) {
  a.count("width", v.width, kWidthMax);
  a.count("vocabulary", v.vocabulary, kVocabularyMax);
  a.object("norm", v.norm);
  a.one_of("activation", v.activation, kActivationNames, FirstIs::neutral);
  a.flag("tied_embeddings", v.tied_embeddings);
  a.number_or("embedding_scale", v.embedding_scale, 1, kFactorMin, kFactorMax);
  a.number_or("residual_scale", v.residual_scale, 1, kFactorMin, kFactorMax);
  a.number_or("logits_scale", v.logits_scale, 1, kFactorMin, kFactorMax);
  a.number("final_soft_cap", v.final_soft_cap, kFactorMin, kFactorMax);
  a.kinds("layer_kinds", v.layer_kinds);
  a.indices("layers", v.layers);
}

}  // namespace sluice::format
