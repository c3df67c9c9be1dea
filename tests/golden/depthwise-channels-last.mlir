#map = affine_map<(d0, d1, d2, d3) -> (d0, d3, d1, d2)>
#map1 = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
#map2 = affine_map<(d0, d1, d2, d3) -> (d3, d2, d0, d1)>
#map3 = affine_map<(d0, d1, d2, d3) -> (d0, d2, d3, d1)>
module {
  func.func @kernel(%arg0: tensor<1x4x6x6xf32>, %arg1: tensor<4x1x3x3xf32>, %arg2: !hal.buffer {iree.abi.output = 0 : index}) -> tensor<1x4x6x6xf32> {
    %0 = tensor.empty() : tensor<1x6x6x4xf32>
    %1 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%arg0 : tensor<1x4x6x6xf32>) outs(%0 : tensor<1x6x6x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<1x6x6x4xf32>
    %cst = arith.constant 0.000000e+00 : f32
    %padded = tensor.pad %1 low[0, 1, 1, 0] high[0, 1, 1, 0] {
    ^bb0(%arg3: index, %arg4: index, %arg5: index, %arg6: index):
      tensor.yield %cst : f32
    } : tensor<1x6x6x4xf32> to tensor<1x8x8x4xf32>
    %2 = tensor.empty() : tensor<3x3x1x4xf32>
    %3 = linalg.generic {indexing_maps = [#map2, #map1], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%arg1 : tensor<4x1x3x3xf32>) outs(%2 : tensor<3x3x1x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<3x3x1x4xf32>
    %4 = tensor.empty() : tensor<1x6x6x4xf32>
    %cst_0 = arith.constant 0.000000e+00 : f32
    %5 = linalg.fill ins(%cst_0 : f32) outs(%4 : tensor<1x6x6x4xf32>) -> tensor<1x6x6x4xf32>
    %collapsed = tensor.collapse_shape %3 [[0], [1], [2, 3]] : tensor<3x3x1x4xf32> into tensor<3x3x4xf32>
    %6 = linalg.depthwise_conv_2d_nhwc_hwc {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>} ins(%padded, %collapsed : tensor<1x8x8x4xf32>, tensor<3x3x4xf32>) outs(%5 : tensor<1x6x6x4xf32>) -> tensor<1x6x6x4xf32>
    %7 = tensor.empty() : tensor<1x4x6x6xf32>
    %8 = linalg.generic {indexing_maps = [#map3, #map1], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%6 : tensor<1x6x6x4xf32>) outs(%7 : tensor<1x4x6x6xf32>) {
    ^bb0(%in: f32, %out: f32):
      %cst_1 = arith.constant 1.000000e+00 : f32
      %9 = arith.negf %in : f32
      %10 = math.exp %9 : f32
      %11 = arith.addf %cst_1, %10 : f32
      %12 = arith.divf %cst_1, %11 : f32
      %13 = arith.mulf %in, %12 : f32
      linalg.yield %13 : f32
    } -> tensor<1x4x6x6xf32>
    return %8 : tensor<1x4x6x6xf32>
  }
}
